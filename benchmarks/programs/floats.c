/* Double precision. Only additions, multiplications, divisions and square roots: the same bits on every machine. */
#include <math.h>
#include <string.h>

#include "classes.h"

static uint64_t pattern(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* ---- bodies: gravitation among five, with invented masses ---- */

struct body {
    double at[3], speed[3], mass;
};

uint64_t class_bodies(void) {
    enum { BODIES = 5 };
    struct body bodies[BODIES];
    uint64_t random = 5;
    for (unsigned i = 0; i < BODIES; i++) {
        for (unsigned axis = 0; axis < 3; axis++) {
            bodies[i].at[axis] = (double)(next_random(&random) >> 40) * 0x1p-20 - 8 + 4 * i;
            bodies[i].speed[axis] = (double)(next_random(&random) >> 40) * 0x1p-24 - 0.5;
        }
        bodies[i].mass = i == 0 ? 40.0 : (double)(next_random(&random) >> 40) * 0x1p-29;
    }
    for (unsigned step = 0; step < 150000; step++) {
        for (unsigned i = 0; i < BODIES; i++)
            for (unsigned j = i + 1; j < BODIES; j++) {
                double dx = bodies[i].at[0] - bodies[j].at[0], dy = bodies[i].at[1] - bodies[j].at[1],
                       dz = bodies[i].at[2] - bodies[j].at[2];
                double squared = dx * dx + dy * dy + dz * dz;
                double pull = 0.001 / (squared * sqrt(squared));
                double by_j = bodies[j].mass * pull, by_i = bodies[i].mass * pull;
                bodies[i].speed[0] -= dx * by_j;
                bodies[i].speed[1] -= dy * by_j;
                bodies[i].speed[2] -= dz * by_j;
                bodies[j].speed[0] += dx * by_i;
                bodies[j].speed[1] += dy * by_i;
                bodies[j].speed[2] += dz * by_i;
            }
        for (unsigned i = 0; i < BODIES; i++)
            for (unsigned axis = 0; axis < 3; axis++) bodies[i].at[axis] += 0.001 * bodies[i].speed[axis];
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < BODIES; i++)
        for (unsigned axis = 0; axis < 3; axis++) sum = mix(sum, pattern(bodies[i].at[axis]));
    return sum;
}

/* ---- linear (LINPACK's class): Gaussian elimination with partial pivoting ---- */

enum { N = 200 };
static double a[N][N], b[N];

__attribute__((noinline)) static void add_scaled(unsigned n, double scale, const double* x, double* y) {
    for (unsigned i = 0; i < n; i++) y[i] += scale * x[i];
}

uint64_t class_linear(void) {
    uint64_t sum = 0, random = 6;
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < N; i++) {
            for (unsigned j = 0; j < N; j++) a[i][j] = (double)(next_random(&random) >> 40) * 0x1p-23 - 1.0;
            b[i] = (double)i;
        }
        for (unsigned k = 0; k < N; k++) {
            unsigned pivot = k;
            for (unsigned i = k + 1; i < N; i++)
                if (fabs(a[i][k]) > fabs(a[pivot][k])) pivot = i;
            if (pivot != k) {
                for (unsigned j = k; j < N; j++) {
                    double swapped = a[k][j];
                    a[k][j] = a[pivot][j];
                    a[pivot][j] = swapped;
                }
                double swapped = b[k];
                b[k] = b[pivot];
                b[pivot] = swapped;
            }
            for (unsigned i = k + 1; i < N; i++) {
                double factor = -a[i][k] / a[k][k];
                add_scaled(N - k - 1, factor, &a[k][k + 1], &a[i][k + 1]);
                b[i] += factor * b[k];
            }
        }
        for (unsigned k = N; k-- > 0;) {
            for (unsigned j = k + 1; j < N; j++) b[k] -= a[k][j] * b[j];
            b[k] /= a[k][k];
        }
        for (unsigned i = 0; i < N; i++) sum = mix(sum, pattern(b[i]));
    }
    return sum;
}
