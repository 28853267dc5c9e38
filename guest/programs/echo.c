/*
 * `echo`: says "echo ready" on every console and sends back each line that comes in there, as "echo: ...".
 * The line "quit" on any console ends it.
 *
 *   echo.seconds=600   how long to wait for the next input
 */
#include "drivers/console.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/print.h"
#include "kernel/string.h"
#include "programs/programs.h"

enum { LINE_SIZE = 256 };

static struct line {
    char text[LINE_SIZE];
    size_t length;
} lines[MAX_CONSOLES];

static bool any_readable(void) {
    for (unsigned i = 0; i < console_count; i++)
        if (consoles[i]->readable(consoles[i])) return true;
    return false;
}

static void say(struct console* console, const char* text) {
    if (!console->write(console, text, strlen(text)))
        print_failure("echo: %s takes no output\n", console->interface);
}

/* True when the line says that we are done. */
static bool take_byte(struct console* console, struct line* line, char byte) {
    if (byte != '\n' && byte != '\r') {
        if (line->length < LINE_SIZE - 1) line->text[line->length++] = byte;
        return false;
    }
    if (line->length == 0) return false; /* the second half of a CR LF */
    line->text[line->length] = '\0';
    line->length = 0;
    char answer[LINE_SIZE + 16];
    format_text(answer, sizeof answer, "echo: %s\r\n", line->text);
    say(console, answer);
    return text_equal(line->text, "quit");
}

void program_echo(void) {
    uint64_t patience = bootargs_number("echo.seconds", 600);
    for (unsigned i = 0; i < console_count; i++) say(consoles[i], "echo ready\r\n");
    for (;;) {
        if (!clock_wait(any_readable(), patience)) {
            print_failure("echo: nothing came in for %lu seconds\n", patience);
            return;
        }
        for (unsigned i = 0; i < console_count; i++) {
            char bytes[64];
            size_t count;
            while ((count = consoles[i]->read(consoles[i], bytes, sizeof bytes)) > 0)
                for (size_t at = 0; at < count; at++)
                    if (take_byte(consoles[i], &lines[i], bytes[at])) return;
        }
    }
}
