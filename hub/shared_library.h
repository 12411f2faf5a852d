// A library of the system that is loaded when something asks for it: linked, libcurl and the thirty
// libraries behind it would make every command start 5 ms later.
#pragma once

namespace quire {

class SharedLibrary {
 public:
  /// Throws Error(device) that names the Debian `package` where the library is not there.
  SharedLibrary(const char* file, const char* package);

  /// A pointer to the function of that name, of the type that the library's header has.
  template <class Function>
  Function function(const char* name) const {
    return reinterpret_cast<Function>(address(name));
  }

 private:
  void* address(const char* name) const;

  const char* file_;
  const char* package_;
  void* handle_;  // never closed: what it has started may still run
};

}  // namespace quire
