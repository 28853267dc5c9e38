/* The words of /chosen/bootargs (Devicetree Specification v0.4, 3.6), which choose what the kernel does. */
#include "kernel/bootargs.h"

#include "kernel/print.h"
#include "kernel/string.h"

enum { MAX_WORDS = 48 };

static char text[1024];
static char* words[MAX_WORDS];
static unsigned word_count;

void bootargs_start(const char* line) {
    size_t length = strlen(line);
    if (length >= sizeof text) panic("bootargs are longer than %d characters\n", (int)sizeof text - 1);
    memcpy(text, line, length + 1);
    char* at = text;
    while (word_count < MAX_WORDS) {
        while (*at == ' ' || *at == '\n' || *at == '\t') at++;
        if (*at == '\0') return;
        words[word_count++] = at;
        while (*at != '\0' && *at != ' ' && *at != '\n' && *at != '\t') at++;
        if (*at != '\0') *at++ = '\0';
    }
}

static const char* behind(const char* word) {
    size_t length = strlen(word);
    for (unsigned i = 0; i < word_count; i++)
        if (text_starts_with(words[i], word) && (words[i][length] == '\0' || words[i][length] == '='))
            return words[i] + length;
    return NULL;
}

bool bootargs_has(const char* word) {
    return behind(word) != NULL;
}

const char* bootargs_text(const char* word, const char* absent) {
    const char* value = behind(word);
    return value != NULL && *value == '=' ? value + 1 : absent;
}

uint64_t bootargs_number(const char* word, uint64_t absent) {
    const char* value = bootargs_text(word, NULL);
    if (value == NULL) return absent;
    const char* at = value;
    unsigned base = 10;
    if (at[0] == '0' && at[1] == 'x') {
        base = 16;
        at += 2;
    }
    uint64_t number = 0;
    for (;; at++) {
        unsigned digit = base;
        if (*at >= '0' && *at <= '9') digit = (unsigned)(*at - '0');
        if (*at >= 'a' && *at <= 'f') digit = (unsigned)(*at - 'a') + 10;
        if (digit >= base) break;
        number = number * base + digit;
    }
    unsigned shift = 0;
    if (*at == 'K') shift = 10;
    if (*at == 'M') shift = 20;
    if (*at == 'G') shift = 30;
    if (shift != 0) at++;
    if (*at != '\0') panic("bootargs: %s=%s is not a number\n", word, value);
    return number << shift;
}

bool bootargs_lists(const char* word, const char* item) {
    const char* list = bootargs_text(word, "");
    if (text_equal(list, "all")) return true;
    size_t length = strlen(item);
    while (*list != '\0') {
        if (text_starts_with(list, item) && (list[length] == '\0' || list[length] == ',')) return true;
        while (*list != '\0' && *list != ',') list++;
        if (*list == ',') list++;
    }
    return false;
}

bool bootargs_empty(void) {
    return word_count == 0;
}
