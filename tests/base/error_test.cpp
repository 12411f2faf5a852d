#include "base/error.h"

#include "tests/support/catch.h"

using namespace quire;

TEST_CASE("a message names fields as they are, or as the program's users know them") {
  CHECK(field_name("block_size") == "`block_size`");
  CHECK("a smaller `block_size`, or `packing` stream"_named ==
        "a smaller `block_size`, or `packing` stream");
  name_fields_by([](std::string_view field) { return "<" + std::string(field) + ">"; });
  CHECK(field_name("block_size") == "<block_size>");
  CHECK("a smaller `block_size`, or `packing` stream"_named ==
        "a smaller <block_size>, or <packing> stream");
  CHECK("`packing`"_named == "<packing>");
  CHECK("nothing"_named == "nothing");
  CHECK(""_named == "");
  name_fields_by(nullptr);
  CHECK("`packing`"_named == "`packing`");
}
