// How files of text are written, where they do not say so themselves.
#pragma once

#include <string>

namespace quire {

struct TextFormat {
  std::string encoding;  ///< a name that encoding.h knows; empty: UTF-8
  char delimiter = 0;    ///< between the fields of a table; 0: found out (csv.h)
  bool header = true;    ///< the first row of a table names its columns; else these are 1, 2, …
};

}  // namespace quire
