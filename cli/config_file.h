// Options from a file: --config-file.
//
// A file whose first character is '{' is a JSON object of option names and values: strings,
// numbers, true, false, or lists of them; null stands for "not set". Any other file is read as
// lines of TOML:
//
//   # a comment
//   model = "models/narrator"
//   stop = ["\n", "END"]
//   top_k = 40
//
// Tables ([section]) have no meaning here and are refused.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quire {

struct ConfigEntry {
  std::string name;                 ///< as written
  std::vector<std::string> values;  ///< as they would be typed; one unless the file has a list
};

/// Throws Error(bad_data) with the line and what is wrong there.
std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path);

}  // namespace quire
