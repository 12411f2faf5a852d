// "{keywords} => {quote}": a text made from the fields of a row.
//
// A name in braces stands for that column's text; "{{" and "}}" are braces, "\n" and "\t" a line
// end and a tab, since a shell passes them as two characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

class Template {
 public:
  /// Throws Error(usage) for a brace without its partner and for a text that names no field.
  explicit Template(std::string_view text);

  const std::vector<std::string>& fields() const { return fields_; }  ///< named, in order
  /// `values` are those of fields().
  std::string fill(const std::vector<std::string_view>& values) const;
  /// What of fill() comes before the last field, from the values of the fields before it: a prompt
  /// for it. White space between the two belongs to the field, since tokens begin with the space
  /// before a word; so a prompt ends without one.
  std::string prompt(const std::vector<std::string_view>& values) const;

 private:
  /// With so many of the values.
  std::string beginning(const std::vector<std::string_view>& values, std::size_t count) const;

  std::vector<std::string> literals_;  // one before each field, and the last one behind
  std::vector<std::string> fields_;
};

}  // namespace quire
