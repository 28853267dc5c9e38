/*
 * The 16550 UART: National Semiconductor PC16550D data sheet, section 8 "Registers". Speed and format are
 * left as the firmware set them.
 *
 * Every byte is one store to the transmitter holding register, which is what makes this device dear to
 * emulate. The 16-byte FIFO at least saves asking before each byte: one "holding register empty" means
 * that sixteen fit.
 */
#include "drivers/uart16550.h"

#include "drivers/console.h"
#include "kernel/clock.h"
#include "kernel/controller.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/print.h"

enum {
    RBR_THR = 0, /* read: receiver buffer; write: transmitter holding register */
    IER = 1,     /* interrupt enable */
    IIR_FCR = 2, /* read: interrupt identification; write: FIFO control */
    LCR = 3,     /* line control */
    MCR = 4,     /* modem control */
    LSR = 5,     /* line status */
    SCR = 7,     /* scratch */
};
enum { IER_RECEIVED = 1, IER_TRANSMITTER_EMPTY = 2 };
enum {
    IIR_CAUSE = 0x0f,
    IIR_TRANSMITTER_EMPTY = 2,
    IIR_RECEIVED = 4,
    IIR_LINE_STATUS = 6,
    IIR_RECEIVED_TIMEOUT = 12,
};
enum { FCR_ENABLE = 1, FCR_CLEAR_BOTH = 6, FCR_TRIGGER_14 = 0xc0 };
enum { LCR_8N1 = 3 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT2 = 8 };
enum { LSR_DATA_READY = 1, LSR_TRANSMITTER_EMPTY = 0x20 };

enum { FIFO_SIZE = 16, RECEIVE_RING = 1024 };

static struct uart {
    struct console console;
    uintptr_t base;
    uint32_t shift;
    const char* volatile transmit; /* what is left of the write in progress */
    volatile size_t transmit_left;
    char received[RECEIVE_RING];
    volatile unsigned received_head, received_tail;
} uart;

static uint8_t read_register(unsigned number) {
    return mmio_read8(uart.base + ((uintptr_t)number << uart.shift));
}
static void write_register(unsigned number, uint8_t value) {
    mmio_write8(uart.base + ((uintptr_t)number << uart.shift), value);
}

static void fill_transmit_fifo(void) {
    size_t count = uart.transmit_left < FIFO_SIZE ? uart.transmit_left : FIFO_SIZE;
    const char* bytes = uart.transmit;
    for (size_t i = 0; i < count; i++) write_register(RBR_THR, (uint8_t)bytes[i]);
    uart.transmit = bytes + count;
    uart.transmit_left -= count;
}

static void empty_receive_fifo(void) {
    while ((read_register(LSR) & LSR_DATA_READY) != 0) {
        char byte = (char)read_register(RBR_THR);
        if (uart.received_head - uart.received_tail < RECEIVE_RING)
            uart.received[uart.received_head++ % RECEIVE_RING] = byte;
    }
}

static void handle_interrupt(void* context) {
    (void)context;
    switch (read_register(IIR_FCR) & IIR_CAUSE) {
        case IIR_TRANSMITTER_EMPTY:
            /* Off before the last bytes go out, or they would raise it once more for nothing. */
            if (uart.transmit_left <= FIFO_SIZE) write_register(IER, IER_RECEIVED);
            fill_transmit_fifo();
            break;
        case IIR_RECEIVED:
        case IIR_RECEIVED_TIMEOUT:
            empty_receive_fifo();
            break;
        case IIR_LINE_STATUS:
            read_register(LSR); /* reading it is what acknowledges it */
            break;
    }
}

static bool write_bytes(struct console* console, const char* bytes, size_t length) {
    (void)console;
    interrupts_disable();
    uart.transmit = bytes;
    uart.transmit_left = length;
    /* What fits goes at once; only the rest is worth an interrupt. */
    if ((read_register(LSR) & LSR_TRANSMITTER_EMPTY) != 0) fill_transmit_fifo();
    if (uart.transmit_left > 0) write_register(IER, IER_RECEIVED | IER_TRANSMITTER_EMPTY);
    interrupts_enable();
    return clock_wait(uart.transmit_left == 0, 30);
}

static bool write_polled(struct console* console, const char* bytes, size_t length) {
    (void)console;
    uint64_t give_up = clock_ticks + 30 * CLOCK_TICKS_PER_SECOND;
    while (length > 0) {
        while ((read_register(LSR) & LSR_TRANSMITTER_EMPTY) == 0)
            if (clock_ticks > give_up) return false;
        for (size_t i = 0; i < FIFO_SIZE && length > 0; i++, length--)
            write_register(RBR_THR, (uint8_t)*bytes++);
    }
    return true;
}

static bool readable(struct console* console) {
    (void)console;
    return uart.received_head != uart.received_tail;
}

static size_t read_bytes(struct console* console, char* buffer, size_t size) {
    size_t count = 0;
    while (count < size && readable(console))
        buffer[count++] = uart.received[uart.received_tail++ % RECEIVE_RING];
    return count;
}

void uart16550_start(const struct device_place* place, uint32_t register_shift) {
    uart.base = page_table_map_device(place->base, place->size);
    uart.shift = register_shift;
    write_register(IER, 0);
    write_register(LCR, LCR_8N1);
    write_register(SCR, 0x5a);
    if (read_register(SCR) != 0x5a) {
        print_failure("no 16550 answers at 0x%lx\n", place->base);
        return;
    }
    write_register(IIR_FCR, FCR_ENABLE | FCR_CLEAR_BOTH | FCR_TRIGGER_14);
    write_register(MCR, MCR_DTR | MCR_RTS | MCR_OUT2); /* OUT2 gates the interrupt on PC-like boards */
    uart.console = (struct console){
        .interface = "16550",
        .address = place->base,
        .interrupt = place->interrupt,
        .write = write_bytes,
        .write_polled = write_polled,
        .read = read_bytes,
        .readable = readable,
    };
    controller_connect(place->interrupt, handle_interrupt, &uart);
    write_register(IER, IER_RECEIVED);
    console_register(&uart.console);
}
