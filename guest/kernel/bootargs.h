/* The words of /chosen/bootargs: "demo", "bench=io", "bench.mb=8". */
#ifndef GUEST_KERNEL_BOOTARGS_H
#define GUEST_KERNEL_BOOTARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bootargs_start(const char* line);

/* Is the word there, alone or with a value? */
bool bootargs_has(const char* word);
/* The text behind `word=`, or `absent`. */
const char* bootargs_text(const char* word, const char* absent);
/* The number behind `word=`, decimal or 0x..., with an optional K, M or G (powers of 1024). */
uint64_t bootargs_number(const char* word, uint64_t absent);
/* Do comma-separated `word=a,b,c` name `item`? "all" names every one. */
bool bootargs_lists(const char* word, const char* item);
/* Are there any words at all? */
bool bootargs_empty(void);

#endif
