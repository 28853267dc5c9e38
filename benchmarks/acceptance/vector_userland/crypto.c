// OpenSSL's ciphers and digests over data of many sizes and alignments: what came out, one hash an algorithm.
//
// It loads libcrypto when it runs and declares what it calls itself, so that it is compiled without OpenSSL's
// headers, for a host and for a guest alike.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GET_TAG = 0x10, SET_TAG = 0x11, MOST = 70000, TAG = 16 };

static void* library;

static void* need(const char* name) {
    void* found = dlsym(library, name);
    if (found == NULL) {
        printf("no %s\n", name);
        exit(1);
    }
    return found;
}

static void* (*new_context)(void);
static void (*free_context)(void*);
static void* (*fetch_cipher)(void*, const char*, const char*);
static void* (*fetch_digest)(void*, const char*, const char*);
static int (*begin)(void*, const void*, const unsigned char*, const unsigned char*, int, const void*);
static int (*update)(void*, unsigned char*, int*, const unsigned char*, int);
static int (*finish)(void*, unsigned char*, int*);
static int (*control)(void*, int, int, void*);
static int (*set_padding)(void*, int);
static int (*digest)(const void*, size_t, unsigned char*, unsigned*, const void*, void*);

static uint64_t state = 88172645463325252u;

static unsigned char draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned char)(state >> 32);
}

static uint64_t hash;

static void add(const unsigned char* bytes, size_t size) {
    for (size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
}

static unsigned char plain[MOST + 64], sealed[MOST + 64], opened[MOST + 64];

static int size_of(int number) {
    static const int larger[] = {127,  128,  129,  191,  255,   256,   257,   300,  511,
                                 512,  513,  1000, 1023, 1024,  1025,  2047,  2049, 4095,
                                 4096, 4097, 5000, 8191, 16384, 16399, 65536, 65551};
    if (number < 100) return number;
    number -= 100;
    return number < (int)(sizeof larger / sizeof larger[0]) ? larger[number] : -1;
}

static void check(int done, const char* name, int size) {
    if (done == 1) return;
    printf("%s fails at %d bytes\n", name, size);
    exit(1);
}

// In two parts, so that what a mode keeps between calls matters too.
static int run(const char* name, const void* cipher, int seal, const unsigned char* key,
               const unsigned char* iv, unsigned char* tag, const unsigned char* from, unsigned char* to,
               int size, int first) {
    void* context = new_context();
    int length = 0, total = 0;
    check(begin(context, cipher, key, iv, seal, NULL), name, size);
    set_padding(context, 0);
    if (tag != NULL) check(update(context, NULL, &length, key, 13), name, size);
    if (first > 0) check(update(context, to, &length, from, first), name, size);
    total = first > 0 ? length : 0;
    if (size > first) {
        check(update(context, to + total, &length, from + first, size - first), name, size);
        total += length;
    }
    if (tag != NULL && !seal) check(control(context, SET_TAG, TAG, tag), name, size);
    check(finish(context, to + total, &length), name, size);
    total += length;
    if (tag != NULL && seal) check(control(context, GET_TAG, TAG, tag), name, size);
    free_context(context);
    return total;
}

static void cipher(const char* name) {
    const int whole = strstr(name, "ECB") != NULL || strstr(name, "CBC") != NULL;
    const int tagged = strstr(name, "GCM") != NULL || strstr(name, "Poly1305") != NULL;
    const int stolen = strstr(name, "XTS") != NULL;
    const void* kind = fetch_cipher(NULL, name, NULL);
    if (kind == NULL) {
        printf("%s is not there\n", name);
        return;
    }
    hash = 0xcbf29ce484222325u;
    for (int i = 0, size; (size = size_of(i)) >= 0; ++i) {
        unsigned char key[64], iv[16], tag[TAG] = {0};
        for (int k = 0; k < 64; ++k) key[k] = draw();
        for (int k = 0; k < 16; ++k) iv[k] = draw();
        if (whole) size &= ~15;
        if (stolen && size < 16) continue;
        // Where text may be stolen it has to come in one part.
        const int first = stolen ? 0 : whole ? size / 3 & ~15 : size / 3;
        const int in = i % 16, out = i / 3 % 16;
        const int total =
            run(name, kind, 1, key, iv, tagged ? tag : NULL, plain + in, sealed + out, size, first);
        if (total != size) check(0, name, size);
        add(sealed + out, (size_t)size);
        add(tag, sizeof tag);
        memset(opened, 0, sizeof opened);
        run(name, kind, 0, key, iv, tagged ? tag : NULL, sealed + out, opened + in, size, first);
        if (memcmp(opened + in, plain + in, (size_t)size) != 0) check(0, name, size);
    }
    printf("%s %016llx\n", name, (unsigned long long)hash);
}

static void sum(const char* name) {
    const void* kind = fetch_digest(NULL, name, NULL);
    if (kind == NULL) {
        printf("%s is not there\n", name);
        return;
    }
    hash = 0xcbf29ce484222325u;
    for (int i = 0, size; (size = size_of(i)) >= 0; ++i) {
        unsigned char out[64];
        unsigned length = 0;
        check(digest(plain + i % 16, (size_t)size, out, &length, kind, NULL), name, size);
        add(out, length);
    }
    printf("%s %016llx\n", name, (unsigned long long)hash);
}

int main(int argc, char** argv) {
    library = dlopen(argc > 1 ? argv[1] : "libcrypto.so.3", RTLD_NOW);
    if (library == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    new_context = need("EVP_CIPHER_CTX_new");
    free_context = need("EVP_CIPHER_CTX_free");
    fetch_cipher = need("EVP_CIPHER_fetch");
    fetch_digest = need("EVP_MD_fetch");
    begin = need("EVP_CipherInit_ex2");
    update = need("EVP_CipherUpdate");
    finish = need("EVP_CipherFinal_ex");
    control = need("EVP_CIPHER_CTX_ctrl");
    set_padding = need("EVP_CIPHER_CTX_set_padding");
    digest = need("EVP_Digest");
    for (size_t i = 0; i < sizeof plain; ++i) plain[i] = draw();
    static const char* const ciphers[] = {"AES-128-ECB", "AES-192-ECB", "AES-256-ECB", "AES-128-CBC",
                                          "AES-192-CBC", "AES-256-CBC", "AES-128-CTR", "AES-192-CTR",
                                          "AES-256-CTR", "AES-128-GCM", "AES-192-GCM", "AES-256-GCM",
                                          "AES-128-XTS", "AES-256-XTS", "ChaCha20",    "ChaCha20-Poly1305",
                                          "SM4-ECB",     "SM4-CBC",     "SM4-CTR"};
    static const char* const digests[] = {"SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SM3", "SHA3-256"};
    for (size_t i = 0; i < sizeof ciphers / sizeof ciphers[0]; ++i) cipher(ciphers[i]);
    for (size_t i = 0; i < sizeof digests / sizeof digests[0]; ++i) sum(digests[i]);
    puts("crypto: done");
    return 0;
}
