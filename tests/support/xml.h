// Enough of XML to see that a picture is well-formed: tags that close, attributes in quotes,
// characters that are escaped.
#pragma once

#include <string>
#include <string_view>

namespace quire::test {

/// What is wrong and where; empty for one root element that is whole. Knows elements, attributes,
/// text and entities: no comments, no declarations, no CDATA.
std::string xml_fault(std::string_view text);

/// The attribute's value in the given start tag, "" where it has none.
std::string xml_attribute(std::string_view tag, std::string_view name);

}  // namespace quire::test
