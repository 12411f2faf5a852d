// Finding what comes with the program: models/ and samples/.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace quire {

/// Where bundled files are looked for, in order: $QUIRE_DATA when set, beside the program,
/// ../share/quire from the program (an installed copy), and the source tree above a build folder.
std::vector<std::filesystem::path> resource_folders();

/// The first of those folders that holds `name` ("samples/quotes.csv"),
/// joined with it; empty: none.
std::filesystem::path find_resource(const std::string& name);

/// A path as a person would type it here: relative when it lies below the current folder.
std::string shown_path(const std::filesystem::path& path);

/// What runs this program in a shell here: "quire" when the PATH finds it, else its path, quoted where
/// a shell wants that.
std::string program_as_typed();

}  // namespace quire
