#include "tests/support/json_lines.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"

namespace quire::test {

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(parse_json<nlohmann::json>(line));
  }
  return lines;
}

}  // namespace quire::test
