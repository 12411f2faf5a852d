// quire download as a user runs it, against a Hub on this machine.
#include <atomic>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/hub_files.h"
#include "tests/support/letter_model.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

struct Place {
  HubServer hub;
  ScratchFolder scratch;
  ProgramOptions options;

  Place() {
    fill(hub);
    options.environment = environment_of(hub, scratch);
    options.folder = scratch.path();
  }
  void set(const std::string& name, const std::string& value) {
    options.environment.emplace_back(name, value);
  }
  ProgramResult run(const std::vector<std::string>& arguments) {
    return run_quire(arguments, options);
  }
  fs::path snapshot() const {
    return scratch.path() / "hf/hub/models--acme--tiny/snapshots" / hub.commit;
  }
};

}  // namespace

TEST_CASE("download: the folder goes to stdout, and what else there is to stderr") {
  Place p;
  const ProgramResult first = p.run({"download", "acme/tiny"});
  INFO(first.err);
  REQUIRE(first.exit_code == 0);
  CHECK(first.out == p.snapshot().string() + "\n");
  CHECK(contains(first.err,
                 "acme/tiny: 4 files to get, 3.00 MB, into " + (p.scratch / "hf/hub").string()));
  CHECK(contains(first.err, "acme/tiny at 0123456789ab: 4 files, of which 3.00 MB came in "));
  CHECK(contains(first.err, "next: quire generate -m acme/tiny -p "));
  CHECK(read_file(p.snapshot() / "config.json") == p.hub.files["config.json"].content);
  for (const auto& request : p.hub.server.requests()) {
    CHECK(request.header("user-agent").starts_with("quire/"));
    CHECK(request.header("authorization").empty());
  }

  const ProgramResult second = p.run({"download", "acme/tiny", "--json"});
  CHECK(second.exit_code == 0);
  CHECK(contains(second.err, "acme/tiny is here already, at 0123456789ab: 4 files"));
  const auto json = parse_json<nlohmann::json>(second.out);
  CHECK(json["folder"] == p.snapshot().string());
  CHECK(json["commit"] == p.hub.commit);
  CHECK(json["files"].size() == 4);
  CHECK(json["files"][3]["hash"] == p.hub.files["model.safetensors"].hash);
  CHECK(json["downloaded_bytes"] == 0);
  CHECK(p.run({"download", "acme/tiny", "-q"}).err.empty());
}

TEST_CASE("download: what came is a model by its name") {
  Place p;
  const fs::path model = make_letter_model(p.scratch);
  p.hub.files.clear();
  for (const auto& entry : fs::directory_iterator(model)) {
    p.hub.files[entry.path().filename()] =
        hub_file(read_file(entry.path()), entry.path().extension() == ".safetensors");
  }
  const ProgramResult before = p.run({"generate", "-m", "acme/tiny", "-p", "a", "-n", "2"});
  CHECK(before.exit_code == 3);
  CHECK(contains(before.err, "  quire download acme/tiny\n"));
  CHECK(p.hub.calls().empty());  // no socket without being asked
  REQUIRE(p.run({"download", "acme/tiny"}).exit_code == 0);
  const std::size_t calls = p.hub.calls().size();
  const ProgramResult after = p.run({"generate", "-m", "acme/tiny", "-p", "a", "-n", "2"});
  INFO(after.err);
  CHECK(after.exit_code == 0);
  CHECK(p.hub.calls().size() == calls);
}

TEST_CASE("download: with --download the commands that take a model get it, once") {
  Place p;
  const fs::path model = make_letter_model(p.scratch);
  p.hub.files.clear();
  for (const auto& entry : fs::directory_iterator(model)) {
    p.hub.files[entry.path().filename()] =
        hub_file(read_file(entry.path()), entry.path().extension() == ".safetensors");
  }
  const std::string text = p.scratch.write("a.txt", "the cat. the dog. the cat and the dog.\n");
  for (std::vector<std::string> command :
       {std::vector<std::string>{"generate", "-p", "a", "-n", "2", "-m"},
        {"eval", "--data", text, "-m"},
        {"eval", "--data", text, "-m", model, "--baseline"},
        {"train", "--data", text, "-o", "out", "--max-steps", "1", "--block-size", "8",
         "--resize-vocab", "-m"}}) {
    fs::remove_all(p.scratch / "hf");
    command.emplace_back("acme/tiny");
    const std::size_t before = p.hub.calls().size();
    CHECK(p.run(command).exit_code == 3);
    CHECK(p.hub.calls().size() == before);
    command.emplace_back("--download");
    const ProgramResult got = p.run(command);
    INFO(command[0] << "\n" << got.err);
    CHECK(got.exit_code == 0);
    CHECK(contains(got.err, "acme/tiny at 0123456789ab: "));
    const std::size_t after = p.hub.calls().size();
    CHECK(after > before);
    if (command[0] == "train") command.emplace_back("--overwrite-output-dir");
    CHECK(p.run(command).exit_code == 0);
    CHECK(p.hub.calls().size() == after);
  }
  // What a run saves asks for nothing of the network.
  CHECK_FALSE(contains(read_file(p.scratch / "out/quire_config.json"), "\"download\""));
  CHECK(p.run({"generate", "-p", "a", "-n", "2", "-m", model, "--download"}).exit_code == 0);
  p.options.environment.emplace_back("HF_HUB_OFFLINE", "1");
  CHECK(p.run({"generate", "-p", "a", "-m", "acme/other", "--download"}).exit_code == 2);
}

TEST_CASE(
    "download: the token comes from HF_TOKEN, a file it names, or the home of huggingface_hub") {
  Place p;
  p.hub.token = "hf_right";
  const ProgramResult without = p.run({"download", "acme/tiny"});
  CHECK(without.exit_code == 3);
  CHECK(contains(without.err, "in HF_TOKEN or " + (p.scratch / "hf/token").string()));
  p.scratch.write("hf/token", "hf_right\n");
  CHECK(p.run({"download", "acme/tiny"}).exit_code == 0);
  p.set("HF_TOKEN_PATH", p.scratch.write("wrong", "hf_wrong"));
  CHECK(p.run({"download", "acme/tiny"}).exit_code == 3);
  p.set("HF_TOKEN", "hf_right");
  CHECK(p.run({"download", "acme/tiny"}).exit_code == 0);
  p.set("HF_TOKEN", "hf right");
  const ProgramResult none = p.run({"download", "acme/tiny"});
  CHECK(none.exit_code == 2);
  CHECK(contains(none.err, "error: the token of HF_TOKEN cannot be one\n"));
}

TEST_CASE("download: variables that forbid it, and arguments that are none, open no connection") {
  Place p;
  p.set("HF_HUB_OFFLINE", "1");
  const ProgramResult offline = p.run({"download", "acme/tiny"});
  CHECK(offline.exit_code == 2);
  CHECK(contains(offline.err, "error: HF_HUB_OFFLINE is set: nothing is sent or got\n"));
  CHECK(contains(offline.err, "try: unset HF_HUB_OFFLINE\n"));
  p.set("HF_HUB_OFFLINE", "");
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"a/b", "c/d"}, {"../x"}, {"a/b@../c"}}) {
    std::vector<std::string> all = {"download"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    CHECK(p.run(all).exit_code == 2);
  }
  p.set("HF_ENDPOINT", "huggingface");
  CHECK(contains(p.run({"download", "a/b"}).err, "HF_ENDPOINT is 'huggingface', which is no URL"));
  CHECK(p.hub.calls().empty());
  p.set("HF_ENDPOINT", "http://127.0.0.1:1");
  CHECK(p.run({"download", "a/b"}).exit_code == 5);
}

TEST_CASE("download: Ctrl-C keeps what came, says how to go on, and the rest comes then") {
  Place p;
  std::atomic<bool> holds = true;
  p.hub.files["model.safetensors"] = hub_file(some_bytes(20'000'000), true);
  const std::string weights = p.hub.files["model.safetensors"].content;
  p.hub.change = [&](const HubServer::Request& request, HubServer::Reply& reply) {
    if (!holds || !request.path().starts_with("/cdn/")) return;
    // Less than it says comes, and then nothing more: the program waits.
    reply.stall_after = 5'000'000;
  };
  Program program({"download", "acme/tiny"}, p.options);
  const fs::path part = p.scratch.path() / "hf/hub/models--acme--tiny/blobs" /
                        (p.hub.files["model.safetensors"].hash + ".incomplete");
  REQUIRE(program.wait_for_file(part, 5'000'000));
  program.send(SIGINT);
  const ProgramResult stopped = program.wait();
  INFO(stopped.err);
  CHECK(stopped.exit_code == 130);
  CHECK(stopped.out.empty());
  CHECK(contains(stopped.err,
                 "stopped; 5.00 MB came, and are kept\n  to go on: quire download acme/tiny\n"));
  CHECK(fs::file_size(part) == 5'000'000);
  holds = false;
  const ProgramResult rest = p.run({"download", "acme/tiny"});
  CHECK(rest.exit_code == 0);
  CHECK(contains(rest.err, "acme/tiny: 1 file to get, 15.0 MB"));
  CHECK(read_file(p.snapshot() / "model.safetensors") == weights);
}

TEST_CASE("download: on a terminal a line moves") {
  Place p;
  p.hub.files["model.safetensors"] = hub_file(some_bytes(60'000'000), true);
  p.options.streams = Streams::terminal;
  const ProgramResult run = p.run({"download", "acme/tiny"});
  INFO(run.out);
  CHECK(run.exit_code == 0);
  CHECK(contains(run.out, "downloading "));
  CHECK(contains(run.out, " of 60.0 MB "));
}

TEST_CASE("download: --help names the variables") {
  const ProgramResult help = run_quire({"download", "--help"});
  CHECK(help.exit_code == 0);
  for (const char* name : {"HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "--include"}) {
    CHECK(contains(help.out, name));
  }
}
