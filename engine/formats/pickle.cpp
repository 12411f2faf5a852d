#include "engine/formats/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace quire {
namespace {

using Kind = Pickled::Kind;

// The largest GPT-2 has 580 tensors of some 40 opcodes each, its optimizer's state three times that.
// An opcode is one byte, and what it makes 64 and more, or a mark or something remembered: without a
// limit a small file could ask for much memory.
constexpr std::size_t kMostOpcodes = 1 << 20;

/// Runs a pickle's opcodes.
class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, std::span<const std::string_view> allowed,
                const std::string& what, std::deque<Pickled>& values)
      : bytes_(bytes), allowed_(allowed), what_(what), values_(values) {}

  const Pickled* run() {
    for (std::size_t opcodes = 0; !stopped_; ++opcodes) {
      at_opcode_ = at_;
      if (opcodes == kMostOpcodes) fail("it has more than a checkpoint has");
      step(take(1)[0]);
    }
    return pop();
  }
  std::size_t at() const { return at_; }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(Fault::bad_data, what_,
                {fmt::format("byte {} of its pickle: {}", at_opcode_, why)});
  }

  // ---- what is read
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) fail("it ends too early");
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) fail("it ends too early");
    const std::string_view taken = take(end - at_);
    ++at_;
    return taken;
  }
  template <class T>
  T number_in(std::string_view text) const {
    T value{};
    const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (trouble != std::errc() || end != text.data() + text.size()) fail("a number is none");
    return value;
  }

  // ---- the stack
  Pickled* make(Pickled value) { return &values_.emplace_back(std::move(value)); }
  void push(Pickled value) { stack_.push_back(make(std::move(value))); }
  void push_text(std::string_view text) { push({.kind = Kind::text, .text = text}); }
  void push_integer(std::int64_t value) { push({.kind = Kind::integer, .integer = value}); }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Pickled* top() const {
    if (stack_.size() <= floor()) fail("it takes from an empty stack");
    return stack_.back();
  }
  Pickled* pop() {
    Pickled* const value = top();
    stack_.pop_back();
    return value;
  }
  /// What was pushed since the last mark, which is gone then.
  std::vector<const Pickled*> pop_to_mark() {
    if (marks_.empty()) fail("there is no mark");
    std::vector<const Pickled*> parts(stack_.begin() + std::ptrdiff_t(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return parts;
  }
  std::vector<const Pickled*> pop_values(std::size_t count) {
    std::vector<const Pickled*> parts(count);
    for (std::size_t i = count; i-- > 0;) parts[i] = pop();
    return parts;
  }
  void add(Kind kind, const std::vector<const Pickled*>& parts) {
    Pickled* const to = top();
    // What is called gives a dict (collections.OrderedDict), whose entries come after its arguments.
    if (!to->is(kind) && !(kind == Kind::dict && to->is(Kind::call)))
      fail("it adds to no container");
    if (kind == Kind::dict && parts.size() % 2 != 0) fail("a key has no value");
    to->parts.insert(to->parts.end(), parts.begin(), parts.end());
  }
  void remember(std::uint64_t place) { memo_[place] = top(); }
  void recall(std::uint64_t place) {
    const auto entry = memo_.find(place);
    if (entry == memo_.end()) fail("it recalls what it did not remember");
    stack_.push_back(entry->second);
  }

  void push_global(std::string_view module, std::string_view name) {
    const std::string whole = fmt::format("{} {}", module, name);
    const auto* const known = std::find(allowed_.data(), allowed_.data() + allowed_.size(), whole);
    if (known == allowed_.data() + allowed_.size()) {
      fail(
          fmt::format("it names {}.{}, which the weights of a model do not need; nothing of it was "
                      "run",
                      module, name));
    }
    push({.kind = Kind::global, .text = *known});
  }
  /// Little-endian, in two's complement.
  void push_long(std::string_view digits) {
    std::int64_t value = 0;
    if (digits.size() > sizeof value) return push({.kind = Kind::integer, .text = digits});
    if (!digits.empty() && (digits.back() & 0x80) != 0) value = -1;
    std::memcpy(&value, digits.data(), digits.size());
    push_integer(value);
  }
  void push_line_integer(std::string_view text) {  // "01" and "00" are booleans
    if (text == "00" || text == "01") {
      return push({.kind = Kind::boolean, .integer = text[1] - '0'});
    }
    if (text.ends_with('L')) text.remove_suffix(1);
    push_integer(number_in<std::int64_t>(text));
  }

  void step(char opcode);
  bool step_numbers(char opcode);
  bool step_texts(char opcode);
  bool step_containers(char opcode);
  bool step_memo(char opcode);

  std::string_view bytes_;
  std::span<const std::string_view> allowed_;
  const std::string& what_;
  std::deque<Pickled>& values_;
  std::size_t at_ = 0, at_opcode_ = 0;
  bool stopped_ = false;
  std::vector<Pickled*> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::unordered_map<std::uint64_t, Pickled*> memo_;
};

bool PickleMachine::step_numbers(char opcode) {
  switch (opcode) {
    case 'N':
      push({});
      return true;
    case '\x88':
      push({.kind = Kind::boolean, .integer = 1});
      return true;
    case '\x89':
      push({.kind = Kind::boolean, .integer = 0});
      return true;
    case 'J':
      push_integer(number<std::int32_t>());
      return true;
    case 'K':
      push_integer(number<std::uint8_t>());
      return true;
    case 'M':
      push_integer(number<std::uint16_t>());
      return true;
    case 'I':
    case 'L':
      push_line_integer(line());
      return true;
    case '\x8a':
      push_long(take(number<std::uint8_t>()));
      return true;
    case '\x8b':
      push_long(take(number<std::uint32_t>()));
      return true;
    case 'F':
      push({.kind = Kind::real, .real = number_in<double>(line())});
      return true;
    case 'G': {  // big-endian
      const auto bits = __builtin_bswap64(number<std::uint64_t>());
      push({.kind = Kind::real, .real = std::bit_cast<double>(bits)});
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::step_texts(char opcode) {
  switch (opcode) {
    case 'X':
    case 'T':
    case 'B':
      push_text(take(number<std::uint32_t>()));
      return true;
    case '\x8c':
    case 'U':
    case 'C':
      push_text(take(number<std::uint8_t>()));
      return true;
    case '\x8d':
    case '\x8e':
      push_text(take(number<std::uint64_t>()));
      return true;
    case 'V':
      push_text(line());
      return true;
    case 'S': {
      const std::string_view quoted = line();
      if (quoted.size() < 2) fail("a text has no quotes");
      push_text(quoted.substr(1, quoted.size() - 2));
      return true;
    }
    case 'c': {
      const std::string_view module = line();
      push_global(module, line());
      return true;
    }
    case '\x93': {
      const Pickled *name = pop(), *module = pop();
      push_global(module->text, name->text);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::step_containers(char opcode) {
  switch (opcode) {
    case '(':
      marks_.push_back(stack_.size());
      return true;
    case '0':
      if (stack_.size() == floor() && !marks_.empty()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':
      pop_to_mark();
      return true;
    case '2':
      stack_.push_back(top());
      return true;
    case ')':
      push({.kind = Kind::tuple});
      return true;
    case ']':
    case '\x8f':
      push({.kind = Kind::list});
      return true;
    case '}':
      push({.kind = Kind::dict});
      return true;
    case 't':
      push({.kind = Kind::tuple, .parts = pop_to_mark()});
      return true;
    case 'l':
    case '\x91':
      push({.kind = Kind::list, .parts = pop_to_mark()});
      return true;
    case 'd': {
      std::vector<const Pickled*> parts = pop_to_mark();
      push({.kind = Kind::dict});
      add(Kind::dict, parts);
      return true;
    }
    case '\x85':
      push({.kind = Kind::tuple, .parts = pop_values(1)});
      return true;
    case '\x86':
      push({.kind = Kind::tuple, .parts = pop_values(2)});
      return true;
    case '\x87':
      push({.kind = Kind::tuple, .parts = pop_values(3)});
      return true;
    case 'a':
      add(Kind::list, pop_values(1));
      return true;
    case 'e':
    case '\x90':
      add(Kind::list, pop_to_mark());
      return true;
    case 's':
      add(Kind::dict, pop_values(2));
      return true;
    case 'u':
      add(Kind::dict, pop_to_mark());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::step_memo(char opcode) {
  switch (opcode) {
    case 'p':
      remember(number_in<std::uint64_t>(line()));
      return true;
    case 'q':
      remember(number<std::uint8_t>());
      return true;
    case 'r':
      remember(number<std::uint32_t>());
      return true;
    case '\x94':
      remember(memo_.size());
      return true;
    case 'g':
      recall(number_in<std::uint64_t>(line()));
      return true;
    case 'h':
      recall(number<std::uint8_t>());
      return true;
    case 'j':
      recall(number<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

void PickleMachine::step(char opcode) {
  if (step_numbers(opcode) || step_texts(opcode) || step_containers(opcode) || step_memo(opcode)) {
    return;
  }
  switch (opcode) {
    case '\x80': {  // the protocol
      const int protocol = number<std::uint8_t>();
      if (protocol > 5) fail(fmt::format("it is of protocol {}; known are 0 to 5", protocol));
      return;
    }
    case '\x95':
      take(sizeof(std::uint64_t));
      return;       // a frame: how far to read ahead
    case 'R':       // a function and its arguments
    case '\x81': {  // a class and its arguments
      std::vector<const Pickled*> parts = pop_values(2);
      if (!parts[0]->is(Kind::global)) fail("it calls what is no function");
      push({.kind = Kind::call, .parts = std::move(parts)});
      return;
    }
    case 'b':
      pop(), top();
      return;  // the state of an object: of a dict, its attributes
    case 'Q':
      push({.kind = Kind::persistent, .parts = pop_values(1)});
      return;
    case '.':
      stopped_ = true;
      return;
    default:
      fail(fmt::format("opcode {:#04x} is not one that checkpoints have",
                       static_cast<unsigned char>(opcode)));
  }
}

}  // namespace

const Pickled* Pickled::find(std::string_view key) const {
  // A call's first two parts are the function and its arguments.
  if (!is(Kind::dict) && !is(Kind::call)) return nullptr;
  for (std::size_t i = parts.size(); i >= (is(Kind::call) ? 4u : 2u); i -= 2) {
    const Pickled& name = *parts[i - 2];
    if (name.is(Kind::text) && name.text == key) return parts[i - 1];
  }
  return nullptr;
}

Pickle::Pickle(std::string_view bytes, std::span<const std::string_view> allowed,
               const std::string& what) {
  PickleMachine machine(bytes, allowed, what, values_);
  value_ = machine.run();
  size_ = machine.at();
}

}  // namespace quire
