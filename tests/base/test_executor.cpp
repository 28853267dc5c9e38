// The executor with a host thread: the thread comes with work and goes without, and no task is lost, run
// twice or out of order by that; nor where the host has no thread to give. And the one without a thread.
//
// Standalone: prints each failure and a closing count, exits 0 if there are none. From the repository's root:
//   c++ -std=c++20 -g -Wall -Wextra -Werror -Icsrc tests/base/test_executor.cpp csrc/base/executor.cpp
//       -pthread -o test_executor && ./test_executor
// It is meant to run under ThreadSanitizer as well.
#include "base/executor.h"
#include "support/check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <latch>
#include <string>
#include <vector>

namespace {

using namespace wirt;
using namespace std::chrono_literals;

// Each task is on whichever thread there is just then; one that is gone is gone from the host as well.
void test_a_thread_without_work_goes() {
    ThreadExecutor executor(0ms);
    pid_t before = 0, now = 0;
    for (unsigned changes = 0; changes < 20;) {
        executor.post([&] { now = gettid(); });
        executor.drain();
        if (now != before && before != 0) {
            ++changes;
            while (std::filesystem::exists("/proc/self/task/" + std::to_string(before)))
                std::this_thread::yield();
        }
        before = now;
    }
    CHECK(now != gettid());
}

// The thread ends whenever it likes between these.
void test_tasks_keep_their_order_while_threads_come_and_go() {
    constexpr unsigned posters = 3, tasks = 4000;
    ThreadExecutor executor(0ms);
    std::vector<unsigned> seen[posters];
    bool overlap = false, inside = false;
    std::vector<std::thread> threads;
    for (unsigned poster = 0; poster < posters; ++poster) {
        threads.emplace_back([&, poster] {
            for (unsigned i = 0; i < tasks; ++i) {
                executor.post([&, poster, i] {
                    overlap = overlap || inside;
                    inside = true;
                    seen[poster].push_back(i);
                    inside = false;
                });
                if (i % 64 == 0) std::this_thread::sleep_for(50us);
                if (i % 1000 == 0) executor.drain();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    executor.drain();
    CHECK(!overlap);
    for (const std::vector<unsigned>& order : seen) {
        CHECK(order.size() == tasks);
        CHECK(std::is_sorted(order.begin(), order.end()));
    }
}

void test_tasks_left_at_destruction_run() {
    constexpr unsigned tasks = 100;
    unsigned ran = 0;
    std::latch begun(1), go(1);
    std::thread opener;
    {
        ThreadExecutor executor;
        executor.post([&] {
            begun.count_down();
            go.wait();
        });
        begun.wait();
        for (unsigned i = 0; i < tasks; ++i) executor.post([&] { ++ran; });
        opener = std::thread([&] { go.count_down(); });
    }
    opener.join();
    CHECK(ran == tasks);
}

void test_a_task_may_post_another() {
    ThreadExecutor executor(0ms);
    unsigned left = 1000;
    std::latch done(1);
    std::function<void()> again = [&] {
        if (--left > 0) {
            executor.post(again);
        } else {
            done.count_down();
        }
    };
    executor.post(again);
    done.wait();
    executor.drain();
    CHECK(left == 0);
}

// From here on this thread can start no other; false where the host does not allow even that.
bool refuse_threads() {
    constexpr auto number = static_cast<u32>(offsetof(seccomp_data, nr));
    constexpr u32 refuse = SECCOMP_RET_ERRNO | EAGAIN;
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, refuse),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

void test_tasks_wait_where_the_host_refuses_a_thread() {
    unsigned ran = 0, ran_at_end = 0;
    bool possible = true;
    ThreadExecutor executor;
    std::thread([&] {
        possible = refuse_threads();
        if (!possible) return;
        {
            // Without work none asks for a thread.
            ThreadExecutor unused;
            unused.drain();
        }
        executor.post([&] { ++ran; });
        executor.post([&] { ++ran; });
        CHECK(ran == 0);
        executor.drain();
        CHECK(ran == 2);
        executor.post([&] { ++ran; });
        {
            ThreadExecutor short_lived;
            short_lived.post([&] { ++ran_at_end; });
        }
        CHECK(ran_at_end == 1);
    }).join();
    if (!possible) {
        std::printf("this host lets no thread be refused: not tried\n");
        return;
    }
    // The next one gets its thread, which does what was left first.
    executor.post([&] { ran *= 10; });
    executor.drain();
    CHECK(ran == 30);
}

// What waits is done by its number and not by when it was asked for, also what is asked for meanwhile.
void test_deferred_tasks_run_by_their_number() {
    unsigned posts = 0;
    std::vector<int> ran;
    DeferredExecutor executor([&] { ++posts; });
    for (const int number : {5, 0, 5, 3}) {
        executor.post(
            [&, number] {
                ran.push_back(number);
                if (ran.size() == 1) executor.post([&] { ran.push_back(1); }, 1);
            },
            static_cast<unsigned>(number));
    }
    CHECK(ran.empty());
    executor.drain();
    CHECK((ran == std::vector<int>{0, 1, 3, 5, 5}));
    CHECK(posts == 5);
}

}  // namespace

int main() {
    test_a_thread_without_work_goes();
    test_tasks_keep_their_order_while_threads_come_and_go();
    test_tasks_left_at_destruction_run();
    test_a_task_may_post_another();
    test_tasks_wait_where_the_host_refuses_a_thread();
    test_deferred_tasks_run_by_their_number();
    return checks.close();
}
