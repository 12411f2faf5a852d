#include "hub/fetch.h"

#include <charconv>
#include <chrono>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/text.h"
#include "hub/partial_file.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

/// Less than this in one go, and a connection that is cut has brought nothing new: so a server that
/// always cuts is given up after a few tries.
constexpr std::uint64_t kWorthTrying = std::uint64_t{1} << 20;

/// A whole number of decimal digits and nothing else.
std::optional<std::uint64_t> size_of_text(std::string_view text) {
  std::uint64_t size = 0;
  const auto [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (trouble != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return size;
}

/// "W/\"0a1b\"" -> "0a1b".
std::string without_quotes(std::string tag) {
  if (tag.starts_with("W/")) tag.erase(0, 2);
  std::erase(tag, '"');
  return tag;
}

/// The first byte and the whole size of "bytes FIRST-LAST/SIZE".
std::optional<std::pair<std::uint64_t, std::uint64_t>> range_of(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const std::string_view first = take_until('-', text);
  take_until('/', text);
  const auto begin = size_of_text(first), size = size_of_text(text);
  if (!begin || !size) return std::nullopt;
  return std::pair(*begin, *size);
}

/// One blob that comes.
class Fetch {
 public:
  Fetch(HubClient& client, const HubModel& model, const RemoteFile& file, const fs::path& blob,
        const std::function<void(const FetchProgress&)>& progress)
      : client_(client),
        model_(model),
        file_(file),
        progress_(progress),
        part_(blob),
        digest_(file.kind, file.size),
        patience_(client.settings(), client.callbacks()) {}

  void run() {
    bool pieced = read_what_is_there();
    for (bool once_more = true;; once_more = false) {
      while (part_.size() < file_.size) pieced = get_rest() || pieced;
      const std::string hash = digest_.hex();
      if (hash == file_.hash) break;
      if (!pieced || !once_more) refuse_content(hash);
      // Of pieces one may be old and wrong.
      tell(file_.name + " came in pieces that do not fit: once more from its beginning");
      begin_anew();
    }
    part_.commit();
  }

 private:
  void tell(const std::string& line) const {
    if (client_.callbacks().say) client_.callbacks().say(line);
  }

  void begin_anew() {
    part_.clear();
    digest_ = Digest(file_.kind, file_.size);
    progress_({.there = 0, .come = 0});
  }

  /// True where something is there, which the hash begins with.
  bool read_what_is_there() {
    if (part_.size() > file_.size) part_.clear();
    if (part_.size() == 0) return false;
    const MappedFile there(part_.path());
    for (std::string_view rest = there.text(); !rest.empty();) {
      const std::string_view piece = rest.substr(0, kWorthTrying);
      if (client_.callbacks().stop_requested && client_.callbacks().stop_requested()) {
        throw HubStopped();
      }
      digest_.add(piece);
      there.let_go(piece);
      rest.remove_prefix(piece.size());
    }
    progress_({.there = part_.size(), .come = 0});
    return true;
  }

  /// Whether the answer is what was asked for. Without a range that was asked for it begins anew.
  bool check_head(const HttpResponse& response) {
    if (response.status == 206) {
      const auto range = range_of(response.header("content-range"));
      if (range && range->first == part_.size() && range->second == file_.size) return true;
      wrong_ = "the answer is the range " + in_quotes(response.header("content-range")) + " of it";
      return false;
    }
    if (part_.size() > 0) begin_anew();
    const std::string length = response.header("content-length");
    if (length.empty() || size_of_text(length) == file_.size) return true;
    wrong_ = "the answer has " + in_quotes(length) + " bytes";
    return false;
  }

  bool take(std::string_view bytes) {
    if (bytes.size() > file_.size - part_.size()) {
      wrong_ = "the answer has more";
      return false;
    }
    part_.append(bytes);
    digest_.add(bytes);
    progress_({.there = part_.size(), .come = bytes.size()});
    return true;
  }

  /// One request. True where it asked for a part of the file.
  bool get_rest() {
    const std::uint64_t before = part_.size();
    HttpRequest request{.url = file_.url, .headers = {{"Accept-Encoding", "identity"}}};
    if (before > 0) {
      request.headers.emplace_back("Range", "bytes=" + std::to_string(before) + "-");
      if (!tag_.empty()) request.headers.emplace_back("If-Range", tag_);
    }
    request.begin = [this](const HttpResponse& response) { return check_head(response); };
    request.sink = [this](std::string_view bytes) { return take(bytes); };
    HttpResponse response = client_.send_once(request);
    if (!wrong_.empty()) refuse_length();
    if (response.status == 416 && before > 0) {
      begin_anew();
      response.passing = true;  // once more, but not for ever
    }
    if (part_.size() >= before + kWorthTrying) patience_.begin_anew();
    if (part_.size() == file_.size) return before > 0;
    if (response.is_success()) {
      // A strong tag of who has served it: the rest is to be of the same. A later process has no tag,
      // and does without: the hash in the blob's name stands for it.
      tag_ = response.header("etag").starts_with("\"") ? response.header("etag") : "";
      if (response.trouble.empty()) {
        response.trouble = "it ended after " + with_commas(part_.size()) + " of " +
                           with_commas(file_.size) + " bytes";
        response.passing = true;
      }
    }
    if (patience_.wait_after(response)) return before > 0;
    if (!response.trouble.empty()) client_.refuse_connection(response, file_.url);
    client_.refuse(response, model_, file_.name);
  }

  [[noreturn]] void refuse_length() {
    part_.discard();
    throw Error(Fault::bad_data,
                file_.name + " of " + model_.text() + " has not the size it has to",
                {"the Hub says " + with_commas(file_.size) + " bytes", wrong_},
                "the same again; a proxy on the way may change what passes");
  }

  [[noreturn]] void refuse_content(const std::string& hash) {
    part_.discard();
    const std::string method = file_.kind == DigestKind::sha256 ? "SHA-256" : "git's SHA-1";
    throw Error(Fault::bad_data, file_.name + " of " + model_.text() + " came damaged",
                {method + " expected: " + file_.hash, method + " found:    " + hash},
                "the same again; a proxy on the way may change what passes");
  }

  HubClient& client_;
  const HubModel& model_;
  const RemoteFile& file_;
  const std::function<void(const FetchProgress&)>& progress_;
  PartialFile part_;
  Digest digest_;
  Patience patience_;
  std::string wrong_;  // why the answer cannot be the file
  std::string tag_;    // of the answer before
};

}  // namespace

RemoteFile describe_file(HubClient& client, const HubModel& model, const std::string& commit,
                         const std::string& name) {
  RemoteFile file{
      .name = name,
      .url = client.url("/" + in_url(model.name) + "/resolve/" + commit + "/" + in_url(name))};
  const HttpResponse response = client.send(
      {.method = "HEAD", .url = file.url, .headers = {{"Accept-Encoding", "identity"}}});
  const bool linked = response.headers.contains("x-linked-etag");
  if (!response.is_success() && !linked) client.refuse(response, model, name);
  const auto refuse = [&](const std::string& what) {
    throw Error(Fault::bad_data, file.url + " is not answered as the Hub does", {what},
                "HF_ENDPOINT, which names the server");
  };
  const std::string here = response.header("x-repo-commit");
  if (here != commit) {
    refuse(here.empty() ? "there is no X-Repo-Commit" : "it is of the commit " + in_quotes(here));
  }
  file.hash = without_quotes(response.header(linked ? "x-linked-etag" : "etag"));
  const auto kind = kind_of_digest(file.hash);
  if (!kind) refuse("its ETag is no hash: " + in_quotes(file.hash.substr(0, 80)));
  file.kind = *kind;
  const std::string length = response.header(
      response.headers.contains("x-linked-size") ? "x-linked-size" : "content-length");
  const auto size = size_of_text(length);
  if (!size) refuse("its size is " + in_quotes(length.substr(0, 80)));
  file.size = *size;
  return file;
}

void fetch_blob(HubClient& client, const HubModel& model, const RemoteFile& file,
                const fs::path& blob, const fs::path& lock,
                const std::function<void(const FetchProgress&)>& progress) {
  FileLock held(lock);
  const HubCallbacks& callbacks = client.callbacks();
  for (bool told = false; !held.try_lock(); told = true) {
    if (!told && callbacks.say)
      callbacks.say("another process gets " + file.name + ": waiting for it");
    if (callbacks.stop_requested && callbacks.stop_requested()) throw HubStopped();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (fs::exists(blob)) {
    progress({.there = file.size, .come = 0});
    return;
  }
  Fetch(client, model, file, blob, progress).run();
}

}  // namespace quire
