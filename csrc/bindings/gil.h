// Letting go of the interpreter while the core works, and taking it again: as pybind11's gil_scoped_release,
// but for what happens at the end of the process.
//
// Once the interpreter is being finalised, taking the GIL ends the thread with pthread_exit, which unwinds
// its stack. A destructor lets nothing through: the process would abort because some daemon thread was in a
// call of ours. Such a thread is kept where it is instead, as CPython does itself from 3.14 on; it holds
// nothing that anyone needs, and ends with the process.
#pragma once

#include <cxxabi.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

namespace wirt::bindings {

class ReleaseGil {
  public:
    ReleaseGil() : thread_(PyEval_SaveThread()) {}
    ~ReleaseGil() {
        try {
            PyEval_RestoreThread(thread_);
        } catch (abi::__forced_unwind&) {
            for (;;) pause();
        }
    }
    ReleaseGil(const ReleaseGil&) = delete;
    ReleaseGil& operator=(const ReleaseGil&) = delete;

  private:
    PyThreadState* const thread_;
};

using WithoutGil = pybind11::call_guard<ReleaseGil>;

}  // namespace wirt::bindings
