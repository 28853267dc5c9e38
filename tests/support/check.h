// What the native tests count, and how they end.
#pragma once

#include <cstdio>

struct Checks {
    unsigned long passed = 0, failed = 0;

    bool note(bool holds, const char* file, int line, const char* what) {
        ++(holds ? passed : failed);
        if (!holds) std::printf("%s:%d: %s is false\n", file, line, what);
        return holds;
    }
    // The line that test_native.py reads, and the process's exit status.
    int close() const {
        std::printf("%lu passed, %lu failed\n", passed, failed);
        return failed == 0 ? 0 : 1;
    }
};
inline Checks checks;

#define CHECK(condition) checks.note(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
