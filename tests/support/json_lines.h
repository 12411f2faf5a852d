// JSON values that stand one a line, as in a log.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace quire::test {

std::vector<nlohmann::json> json_lines(const std::string& text);

}  // namespace quire::test
