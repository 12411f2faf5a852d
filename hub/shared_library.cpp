#include "hub/shared_library.h"

#include <dlfcn.h>

#include <string>

#include "base/error.h"

namespace quire {
namespace {

[[noreturn]] void refuse(const char* file, const char* package) {
  const char* const why = ::dlerror();
  throw Error(Fault::device, std::string(file) + " cannot be loaded",
              {why != nullptr ? why : "it has not all that is wanted"},
              std::string("apt-get install ") + package);
}

}  // namespace

SharedLibrary::SharedLibrary(const char* file, const char* package)
    : file_(file), package_(package), handle_(::dlopen(file, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) refuse(file, package);
}

void* SharedLibrary::address(const char* name) const {
  void* const found = ::dlsym(handle_, name);
  if (found == nullptr) refuse(file_, package_);
  return found;
}

}  // namespace quire
