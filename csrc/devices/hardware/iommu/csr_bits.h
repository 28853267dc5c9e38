// The control and status registers of the three queues, which share their shape.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 6.15 to 6.17 (cqcsr, fqcsr, pqcsr).
#pragma once

#include "base/types.h"

namespace wirt::devices::hardware::iommu {

constexpr u32 csr_enable = 1 << 0, csr_interrupt_enable = 1 << 1, csr_memory_fault = 1 << 8, csr_on = 1 << 16;
constexpr u32 csr_overflow = 1 << 9;  // fault and page-request queue
constexpr u32 csr_command_timeout = 1 << 9, csr_command_illegal = 1 << 10, csr_fence_interrupt = 1 << 11;

// What software clears by writing ones.
constexpr u32 fault_errors = csr_memory_fault | csr_overflow, page_errors = fault_errors;
constexpr u32 command_stops = csr_memory_fault | csr_command_timeout | csr_command_illegal;
constexpr u32 command_errors = command_stops | csr_fence_interrupt;

// The base registers: LOG2SZ-1, here at most 12 (8,192 entries), and PPN.
constexpr u64 largest_queue = 12;
constexpr u64 queue_base_bits = 0x003f'ffff'ffff'fc1f;

}  // namespace wirt::devices::hardware::iommu
