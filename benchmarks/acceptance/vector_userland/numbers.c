// Loops that compilers turn into vector code: transforms, matrices, reductions, conversions, strings.
//
// Compiled without contraction and without reassociation, so that every result is the same bit for bit
// whatever it is compiled for. Each line of output is a name and a hash of all results under it. Without a C
// library (freestanding) the surroundings have `print`.
#include <stddef.h>
#include <stdint.h>

#if __STDC_HOSTED__
#include <stdio.h>

static void print(const char* text) {
    fputs(text, stdout);
}
#else
void print(const char* text);
#endif

enum { LENGTH = 1024, ODD = 1009, SIDE = 61, REPEATS = 3 };

static uint64_t state = 88172645463325252u;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double draw_real(void) {
    return (double)(int64_t)(draw() >> 11) / (double)(1ll << 52) - 1.0;
}

static void result(const char* name, const void* data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    const unsigned char* bytes = data;
    for (size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    char digits[] = " 0123456789abcdef\n";
    for (int i = 0; i < 16; ++i) digits[16 - i] = "0123456789abcdef"[hash >> 4 * i & 15];
    print(name);
    print(digits);
}

// sin and cos of 2 pi k / n by their series, for libraries differ.
static void turn(int k, int n, double* sine, double* cosine) {
    const double angle = 6.283185307179586 * k / n;
    double term = 1.0, s = 0.0, c = 0.0;
    for (int i = 1; i < 60; ++i) {
        switch (i % 4) {
            case 1:
                c += term;
                break;
            case 2:
                s += term;
                break;
            case 3:
                c -= term;
                break;
            default:
                s -= term;
        }
        term = term * angle / i;
    }
    *sine = s;
    *cosine = c;
}

// Stockham's: each pass reads one pair of arrays and writes the other, so that the inner loops are
// contiguous.
#define TRANSFORM(type)                                                                                   \
    static type twiddle_re_##type[LENGTH], twiddle_im_##type[LENGTH];                                     \
    static void pass_##type(int n, int stride, const type* restrict re, const type* restrict im,          \
                            type* restrict out_re, type* restrict out_im, type sign) {                    \
        const int half = n / 2;                                                                           \
        for (int p = 0; p < half; ++p) {                                                                  \
            const type w_re = twiddle_re_##type[p * stride], w_im = sign * twiddle_im_##type[p * stride]; \
            for (int q = 0; q < stride; ++q) {                                                            \
                const type a_re = re[q + stride * p], a_im = im[q + stride * p];                          \
                const type b_re = re[q + stride * (p + half)], b_im = im[q + stride * (p + half)];        \
                const type d_re = a_re - b_re, d_im = a_im - b_im;                                        \
                out_re[q + stride * 2 * p] = a_re + b_re;                                                 \
                out_im[q + stride * 2 * p] = a_im + b_im;                                                 \
                out_re[q + stride * (2 * p + 1)] = d_re * w_re - d_im * w_im;                             \
                out_im[q + stride * (2 * p + 1)] = d_re * w_im + d_im * w_re;                             \
            }                                                                                             \
        }                                                                                                 \
    }                                                                                                     \
    static void transform_##type(void) {                                                                  \
        static type re[2][LENGTH], im[2][LENGTH], was[LENGTH];                                            \
        for (int i = 0; i < LENGTH; ++i) {                                                                \
            double s, c;                                                                                  \
            turn(i, LENGTH, &s, &c);                                                                      \
            twiddle_re_##type[i] = (type)c;                                                               \
            twiddle_im_##type[i] = (type)-s;                                                              \
            was[i] = re[0][i] = (type)draw_real();                                                        \
            im[0][i] = 0;                                                                                 \
        }                                                                                                 \
        int at = 0;                                                                                       \
        for (int direction = 1; direction >= -1; direction -= 2) {                                        \
            for (int n = LENGTH, stride = 1; n > 1; n /= 2, stride *= 2, at ^= 1) {                       \
                pass_##type(n, stride, re[at], im[at], re[at ^ 1], im[at ^ 1], (type)direction);          \
            }                                                                                             \
            result("fft " #type " real", re[at], sizeof re[at]);                                          \
            result("fft " #type " imaginary", im[at], sizeof im[at]);                                     \
        }                                                                                                 \
        for (int i = 0; i < LENGTH; ++i) {                                                                \
            const type error = re[at][i] / LENGTH - was[i];                                               \
            if (error > (type)1e-4 || error < (type)-1e-4) print("fft " #type ": not what it was\n");     \
        }                                                                                                 \
    }
TRANSFORM(double)
TRANSFORM(float)

#define MATRIX(type, value)                                                                   \
    static void matrix_##type(void) {                                                         \
        static type a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];                              \
        for (int i = 0; i < SIDE; ++i) {                                                      \
            for (int j = 0; j < SIDE; ++j) {                                                  \
                a[i][j] = (type)(value);                                                      \
                b[i][j] = (type)(value);                                                      \
            }                                                                                 \
        }                                                                                     \
        for (int i = 0; i < SIDE; ++i) {                                                      \
            for (int k = 0; k < SIDE; ++k) {                                                  \
                for (int j = 0; j < SIDE; ++j) c[i][j] = (type)(c[i][j] + a[i][k] * b[k][j]); \
            }                                                                                 \
        }                                                                                     \
        result("matrix " #type, c, sizeof c);                                                 \
    }
MATRIX(double, draw_real())
MATRIX(float, draw_real())
MATRIX(uint8_t, draw())
MATRIX(uint16_t, draw())
MATRIX(uint32_t, draw())
MATRIX(uint64_t, draw())

#define REDUCTIONS(type)                                                             \
    static void reductions_##type(void) {                                            \
        static type a[ODD], b[ODD];                                                  \
        for (int i = 0; i < ODD; ++i) {                                              \
            a[i] = (type)draw();                                                     \
            b[i] = (type)draw();                                                     \
        }                                                                            \
        for (int from = 0; from < 9; ++from) {                                       \
            type out[8] = {0};                                                       \
            type least = a[from], most = a[from];                                    \
            for (int i = from; i < ODD - from; ++i) {                                \
                out[0] = (type)(out[0] + a[i]);                                      \
                out[1] ^= a[i];                                                      \
                out[2] |= (type)(a[i] & b[i]);                                       \
                out[3] = (type)(out[3] + (type)(a[i] * b[i]));                       \
                if (a[i] > b[i]) out[4] = (type)(out[4] + 1);                        \
                least = a[i] < least ? a[i] : least;                                 \
                most = a[i] > most ? a[i] : most;                                    \
            }                                                                        \
            for (int i = from; i < ODD; ++i) {                                       \
                if (b[i] != 0) a[i] = (type)(a[i] / b[i] + a[i] % b[i]);             \
            }                                                                        \
            for (int i = 0; i < ODD / 3; ++i)                                        \
                b[i] = (type)(b[3 * i] + (b[3 * i + 1] << 1) - (b[3 * i + 2] >> 1)); \
            out[5] = least;                                                          \
            out[6] = most;                                                           \
            result("reductions " #type, out, sizeof out);                            \
            result("elements " #type, a, sizeof a);                                  \
            result("strided " #type, b, sizeof b);                                   \
        }                                                                            \
    }
REDUCTIONS(int8_t)
REDUCTIONS(uint8_t)
REDUCTIONS(int16_t)
REDUCTIONS(uint16_t)
REDUCTIONS(int32_t)
REDUCTIONS(uint32_t)
REDUCTIONS(int64_t)
REDUCTIONS(uint64_t)

static void conversions(void) {
    static int16_t samples[ODD];
    static float reals[ODD], far[ODD];
    static double wide[ODD];
    static uint8_t clamped[ODD];
    static int32_t whole[ODD];
    static uint32_t places[ODD];
    for (int i = 0; i < ODD; ++i) {
        samples[i] = (int16_t)draw();
        places[i] = (uint32_t)(draw() % ODD);
    }
    for (int i = 0; i < ODD; ++i) reals[i] = (float)samples[i] / 128.0f;
    for (int i = 0; i < ODD; ++i) wide[i] = reals[i] > 0 ? (double)reals[i] * 1.5 : (double)reals[i] - 0.25;
    for (int i = 0; i < ODD; ++i) {
        const float value = reals[i] < 0 ? 0 : reals[i] > 255 ? 255 : reals[i];
        clamped[i] = (uint8_t)value;
    }
    for (int i = 0; i < ODD; ++i) whole[i] = (int32_t)wide[i] * 3 - clamped[i];
    for (int i = 0; i < ODD; ++i) far[i] = reals[places[i]] * 0.5f;
    for (int i = 0; i < ODD; ++i) reals[i] = far[i] * (float)whole[i] + (float)wide[ODD - 1 - i];
    result("conversions to double", wide, sizeof wide);
    result("conversions to bytes", clamped, sizeof clamped);
    result("conversions to words", whole, sizeof whole);
    result("gathered", far, sizeof far);
    result("combined", reals, sizeof reals);
}

static void strings(void) {
    static char text[4 * ODD + 1], upper[4 * ODD + 1], digits[8 * ODD + 1], backwards[4 * ODD + 1];
    uint32_t counts[8] = {0};
    for (int i = 0; i < 4 * ODD; ++i) text[i] = (char)(32 + draw() % 95);
    for (int from = 0; from < 8; ++from) {
        const int length = 4 * ODD - 31 * from;
        const char* at = text + from;
        for (int i = 0; i < length - from; ++i) {
            upper[i] = at[i] >= 'a' && at[i] <= 'z' ? (char)(at[i] - 32) : at[i];
        }
        for (int i = 0; i < length - from; ++i) {
            digits[2 * i] = "0123456789abcdef"[(unsigned char)at[i] >> 4];
            digits[2 * i + 1] = "0123456789abcdef"[at[i] & 15];
        }
        for (int i = 0; i < length - from; ++i) backwards[i] = at[length - from - 1 - i];
        uint32_t low = 1, high = 0;
        for (int i = 0; i < length - from; ++i) {
            counts[from] += at[i] == 'e';
            low += (unsigned char)at[i];
            high += low;
        }
        counts[from] ^= low << 8 ^ high << 16;
        while (at[0] != '~') ++at;
        counts[from] += (uint32_t)(at - text);
        result("upper case", upper, sizeof upper);
        result("digits", digits, sizeof digits);
        result("backwards", backwards, sizeof backwards);
    }
    result("counts", counts, sizeof counts);
}

int main(void) {
    for (int i = 0; i < REPEATS; ++i) {
        transform_double();
        transform_float();
        matrix_double();
        matrix_float();
        matrix_uint8_t();
        matrix_uint16_t();
        matrix_uint32_t();
        matrix_uint64_t();
        reductions_int8_t();
        reductions_uint8_t();
        reductions_int16_t();
        reductions_uint16_t();
        reductions_int32_t();
        reductions_uint32_t();
        reductions_int64_t();
        reductions_uint64_t();
        conversions();
        strings();
    }
    print("numbers: done\n");
    return 0;
}
