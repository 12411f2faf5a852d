// A model folder with a tokenizer, for tests of the program.
#pragma once

#include "base/file.h"
#include "tests/cli/program.h"
#include "tests/support/letter_model.h"
