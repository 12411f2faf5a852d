// quire data: look into a data set, and tokenize it ahead of time.
#include "cli/command.h"

namespace quire {
namespace {

const Command kActions[] = {
    {"inspect", "what a data set holds, and what is wrong with it", run_data_inspect},
    {"prepare", "tokenize it ahead of time, for data larger than memory", run_data_prepare},
};

}  // namespace

const Command kDataCommand = {"data", "inspect, prepare: data sets before training", nullptr,
                              "Looks into data sets and prepares them.", kActions};

}  // namespace quire
