// The fields at the top of a README.md on the Hugging Face Hub: YAML between two lines of "---".
//
// They are kept as text, a field from its name to the line before the next: what a person wrote
// there, comments and all, comes out as it went in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

class FrontMatter {
 public:
  FrontMatter() = default;
  /// Takes the fields off the front of a text; leaves it as it is where it has none.
  static FrontMatter take(std::string_view& text);

  bool has(std::string_view name) const;
  /// The value of a field that is one word or text on one line, without quotes; "" of others.
  std::string value(std::string_view name) const;
  /// Replaces a field where it stands, or adds it. `lines`: "name: value", all of its lines, each
  /// with its end.
  void set(std::string_view name, const std::string& lines);
  /// The same for a list of words; those that it has already stay, in front, where they stand a line
  /// each.
  void add_to_list(std::string_view name, const std::vector<std::string>& words);
  /// With the lines of "---", and an empty one behind them.
  std::string text() const;

 private:
  struct Field {
    std::string name, lines;  ///< name "": what stands before the first
  };
  const Field* find(std::string_view name) const;

  std::vector<Field> fields_;
};

/// A text as YAML has it: a plain word as it is, else as JSON has it.
std::string in_yaml(const std::string& text);

}  // namespace quire
