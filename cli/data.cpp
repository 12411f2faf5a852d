// quire data: look into a data set, and tokenize it ahead of time.
#include "cli/data.h"

#include "cli/command.h"
#include "cli/subcommands.h"

namespace quire {
namespace {

const Command kActions[] = {
    {"inspect", "what a data set holds, and what is wrong with it", run_data_inspect},
    {"prepare", "tokenize it ahead of time, for data larger than memory", run_data_prepare},
};

int run(const std::vector<std::string>& arguments) {
  return run_action("data", "Looks into data sets and prepares them.", kActions, arguments);
}

}  // namespace

const Command kDataCommand = {"data", "inspect, prepare: data sets before training", run};

}  // namespace quire
