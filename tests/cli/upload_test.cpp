// quire upload as a user runs it, against a Hub on this machine.
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/hub_files.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

struct Place {
  HubServer hub;
  ScratchFolder scratch;
  ProgramOptions options;
  std::string weights = some_bytes(1'000'000);

  Place() {
    hub.token = "hf_right";
    options.environment = environment_of(hub, scratch);
    options.environment.emplace_back("HF_TOKEN", hub.token);
    options.folder = scratch.path();
    scratch.write("model/config.json", "{}");
    scratch.write("model/model.safetensors", weights);
    scratch.write("model/log.jsonl", "{}");
  }
  ProgramResult run(std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"upload", "model", "acme/tiny"});
    return run_quire(more, options);
  }
};

}  // namespace

TEST_CASE("upload: --dry-run lists what would go, without a token and a connection") {
  Place p;
  p.options.environment.emplace_back("HF_TOKEN", "");
  const ProgramResult run = p.run({"--dry-run"});
  INFO(run.out << run.err);
  CHECK(run.exit_code == 0);
  CHECK(contains(run.out,
                 "config.json            2 B  commit   "
                 "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"));
  CHECK(contains(run.out, hub_file(p.weights, true).hash));
  CHECK_FALSE(contains(run.out, "log.jsonl"));
  CHECK(contains(run.err, "left out: log.jsonl (--include takes files)\n"));
  CHECK(contains(run.err, "nothing was sent\n"));
  const ProgramResult json = p.run({"--dry-run", "--json", "--include", "*.jsonl"});
  const auto lines = json_lines(json.out);
  REQUIRE(lines.size() == 3);
  CHECK(lines[2] == nlohmann::json{{"file", "model.safetensors"},
                                   {"bytes", 1'000'000},
                                   {"lfs", true},
                                   {"sha256", hub_file(p.weights, true).hash}});
  CHECK(p.hub.calls().empty());
}

TEST_CASE("upload: the commit's address goes to stdout") {
  Place p;
  const ProgramResult run = p.run({"--message", "Learnt more", "--revision", "next"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(run.out == p.hub.url() + "/acme/tiny/commit/" + p.hub.commit + "\n");
  CHECK(contains(run.err, "2 files in "));
  REQUIRE(p.hub.commits.size() == 1);
  CHECK(p.hub.commits[0][0]["value"]["summary"] == "Learnt more");
  CHECK(p.hub.calls().back() == "POST /api/models/acme/tiny/commit/next");
  CHECK(p.hub.store[hub_file(p.weights, true).hash] == p.weights);

  p.hub.files["config.json"] = hub_file("{}");
  p.hub.files["model.safetensors"] = hub_file(p.weights, true);
  const ProgramResult again = p.run({"--json"});
  CHECK(again.exit_code == 0);
  CHECK(contains(again.err, "nothing to do: the Hub has all of it already\n"));
  CHECK(parse_json<nlohmann::json>(again.out)["unchanged"] == 2);
}

TEST_CASE("upload: a model that is not there is made with --create alone") {
  Place p;
  p.hub.exists = false;
  const ProgramResult without = p.run();
  CHECK(without.exit_code == 3);
  CHECK(contains(without.err, "error: the Hub has no model 'acme/tiny' yet\n"));
  CHECK(contains(without.err, "try: --create makes it\n"));
  CHECK(p.run({"--private"}).exit_code == 2);
  CHECK(p.run({"--create", "--private"}).exit_code == 0);
  CHECK(p.hub.created[0]["visibility"] == "private");
}

TEST_CASE("upload: what is missing is said before anything is hashed or sent") {
  Place p;
  const auto refused = [&](const std::vector<std::string>& arguments, int code,
                           const std::string& message) {
    const ProgramResult run = run_quire(arguments, p.options);
    INFO(run.err);
    CHECK(run.exit_code == code);
    CHECK(contains(run.err, message));
  };
  refused({"upload", "model"}, 2, "wanted are a folder and a name on the Hub");
  refused({"upload", "model", "tiny"}, 2, "does not say whose model it is");
  refused({"upload", "model", "acme/tiny@next"}, 2, "the branch is --revision");
  refused({"upload", "model", "acme/tiny", "--revision", "../x"}, 2, "is no revision");
  refused({"upload", "none", "acme/tiny"}, 3, "cannot read the folder none");
  p.options.environment.emplace_back("HF_TOKEN", "");
  refused({"upload", "model", "acme/tiny"}, 2, "error: there is no token");
  CHECK(p.hub.calls().empty());
}

TEST_CASE("upload: Ctrl-C sends no commit and says how to go on") {
  Place p;
  p.hub.instead = [](const HubServer::Request& request) -> std::optional<HubServer::Reply> {
    if (request.method != "PUT") return std::nullopt;
    return HubServer::Reply{.status = 503};
  };
  Program program({"upload", "model", "acme/tiny"}, p.options);
  REQUIRE(program.wait_for("the Hub answers 503: once more in "));
  program.send(SIGINT);
  const ProgramResult run = program.wait();
  INFO(run.err);
  CHECK(run.exit_code == 130);
  CHECK(contains(run.err, "stopped before the commit: nothing has changed on the Hub\n"));
  CHECK(p.hub.commits.empty());
}
