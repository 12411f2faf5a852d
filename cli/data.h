// The actions of `quire data`.
#pragma once

#include <string>
#include <vector>

namespace quire {

int run_data_inspect(const std::vector<std::string>& arguments);
int run_data_prepare(const std::vector<std::string>& arguments);

}  // namespace quire
