// The one exception family of the core. Only *host* mistakes are exceptions (a bad argument, a missing or
// malformed file, a full disk): whatever a guest does has an architectural outcome instead.
#pragma once

#include <stdexcept>
#include <string>

namespace wirt {

class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A configuration that no machine can be built from: sizes, counts, unknown names, conflicting options.
class ConfigError : public Error {
    using Error::Error;
};

// A kernel, firmware, initrd or device tree that is broken or foreign. The message names the file and reason.
class ImageError : public Error {
    using Error::Error;
};

// What stands behind a disk could not be opened, or is not what it was said to be.
class StorageError : public Error {
    using Error::Error;
};

// A network end point was misused (closed, attached twice, oversized frame).
class NetworkError : public Error {
    using Error::Error;
};

// The operation does not fit the machine's present state (started twice, used after close, not paused).
class StateError : public Error {
    using Error::Error;
};

// A physical or virtual address given by the host does not name what the call needs.
class AddressError : public Error {
    using Error::Error;
};

// A snapshot or a migration's stream that is broken, foreign, newer than this release, or of another machine.
class SnapshotError : public Error {
    using Error::Error;
};

// A bus master's access that the IOMMU refused, or that was not to memory.
class DmaError : public Error {
    using Error::Error;
};

}  // namespace wirt
