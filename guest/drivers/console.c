/* The list of character devices. */
#include "drivers/console.h"

struct console* consoles[MAX_CONSOLES];
unsigned console_count;

void console_register(struct console* console) {
    if (console_count < MAX_CONSOLES) consoles[console_count++] = console;
}
