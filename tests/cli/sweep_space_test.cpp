// The plan of a sweep, and its report: what needs no run.
#include "pipeline/sweep/space.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "base/json.h"
#include "cli/train_flags.h"
#include "report/sweep_report.h"
#include "tests/cli/program.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"
#include "tests/support/xml.h"

using namespace quire;
using namespace quire::test;

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

Sweep sweep_of(const ScratchFolder& scratch, const std::string& json) {
  return read_sweep(scratch.write("s.json", json), train_vocabulary());
}

// A sweep with the given method and search; more is inserted before the last brace.
std::string text_of(const std::string& method, const std::string& search,
                    const std::string& more = "") {
  return R"({"method": ")" + method + R"(", "train": {"data": "d.txt", "max_steps": 90}, )" +
         R"("search": {)" + search + "}" + more + "}";
}

std::vector<std::string> shown(const Sweep& sweep) {
  std::vector<std::string> lines;
  for (const Configuration& c : configurations(sweep)) lines.push_back(json_text(c));
  return lines;
}

}  // namespace

TEST_CASE("a grid has every combination, the last option changing fastest") {
  const ScratchFolder scratch;
  const Sweep lists =
      sweep_of(scratch, text_of("grid", R"("lr": [0.1, 0.2, 0.1], "packing": ["none", "stream"])"));
  CHECK(shown(lists) == std::vector<std::string>{R"({"learning_rate":0.1,"packing":"none"})",
                                                 R"({"learning_rate":0.1,"packing":"stream"})",
                                                 R"({"learning_rate":0.2,"packing":"none"})",
                                                 R"({"learning_rate":0.2,"packing":"stream"})"});
  const Sweep ranges = sweep_of(
      scratch, text_of("grid", R"("learning_rate": {"log_min": 1e-4, "log_max": 0.01, "steps": 3},
                                  "batch-size": {"min": 1, "max": 2, "steps": 5})"));
  CHECK(shown(ranges) ==
        std::vector<std::string>{R"({"learning_rate":0.0001,"per_device_train_batch_size":1})",
                                 R"({"learning_rate":0.0001,"per_device_train_batch_size":2})",
                                 R"({"learning_rate":0.001,"per_device_train_batch_size":1})",
                                 R"({"learning_rate":0.001,"per_device_train_batch_size":2})",
                                 R"({"learning_rate":0.01,"per_device_train_batch_size":1})",
                                 R"({"learning_rate":0.01,"per_device_train_batch_size":2})"});
  const std::string thousand = R"({"min": 0, "max": 0.9, "steps": 1000})";
  const Sweep large = sweep_of(
      scratch, text_of("grid", "\"weight_decay\": " + thousand + ", \"adam_beta1\": " + thousand));
  CHECK(contains(scratch.message_of(Fault::usage, [&] { configurations(large); }),
                 "1,000 combinations times 1000 values of adam_beta1"));
}

TEST_CASE("draws lie in their ranges, fill them, and are those of the seed and the name") {
  const ScratchFolder scratch;
  const std::string rate = R"("learning_rate": {"log_min": 1e-5, "log_max": 1e-1})";
  const std::string more =
      rate + R"(, "weight_decay": {"min": 0, "max": 0.5}, "block_size": {"min": 2, "max": 4},
                "packing": ["none", "records", "stream"])";
  const Sweep sweep = sweep_of(scratch, text_of("random", more, R"(, "runs": 2000, "seed": 7)"));
  const auto all = configurations(sweep);
  REQUIRE(all.size() == 2000);
  std::size_t low_decade = 0, low_half = 0;
  std::map<int, int> sizes;
  std::set<std::string> packings, seen;
  for (const Configuration& c : all) {
    const double lr = c["learning_rate"], decay = c["weight_decay"];
    CHECK((lr >= 1e-5 && lr <= 1e-1));
    CHECK((decay >= 0 && decay <= 0.5));
    low_decade += lr < 1e-4 ? 1 : 0;
    low_half += decay < 0.25 ? 1 : 0;
    ++sizes[c["block_size"].get<int>()];
    packings.insert(c["packing"].get<std::string>());
    CHECK(seen.insert(json_text(c)).second);
  }
  // Binomial: within 5 standard deviations.
  const auto likely = [](std::size_t count, double share) {
    return std::abs(static_cast<double>(count) - 2000 * share) <
           5 * std::sqrt(2000 * share * (1 - share));
  };
  CHECK(likely(low_decade, 0.25));
  CHECK(likely(low_half, 0.5));
  CHECK(sizes.size() == 3);
  for (const int size : {2, 3, 4}) CHECK(likely(static_cast<std::size_t>(sizes[size]), 1.0 / 3));
  CHECK(packings.size() == 3);

  CHECK(configurations(sweep) == all);
  CHECK(configurations(
            sweep_of(scratch, text_of("random", more, R"(, "runs": 2000, "seed": 8)"))) != all);
  const auto alone =
      configurations(sweep_of(scratch, text_of("random", rate, R"(, "runs": 5, "seed": 7)")));
  for (std::size_t i = 0; i < alone.size(); ++i) {
    CHECK(alone[i]["learning_rate"] == all[i]["learning_rate"]);
  }
  // There are no more than two different runs here.
  CHECK(configurations(
            sweep_of(scratch, text_of("random", R"("bf16": [true, false])", R"(, "runs": 5)")))
            .size() == 2);
}

TEST_CASE("halving: rounds grow up to max_steps, and the best share goes on") {
  const ScratchFolder scratch;
  const std::string rate = R"("learning_rate": [1, 2, 3, 4, 5, 6, 7, 8, 9])";
  const Sweep sweep = sweep_of(scratch, text_of("halving", rate, R"(, "runs": 9)"));
  CHECK(sweep.rounds == 3);
  CHECK(round_ends(sweep) == std::vector<std::int64_t>{10, 30, 90});
  const nlohmann::ordered_json options = train_options(sweep, configurations(sweep)[0]);
  CHECK(options["eval_steps"] == 10);
  CHECK(options["save_steps"] == 0);
  CHECK(options["max_steps"] == 90);
  const Sweep two =
      sweep_of(scratch, text_of("halving", rate, R"(, "runs": 9, "factor": 2, "rounds": 2)"));
  CHECK(round_ends(two) == std::vector<std::int64_t>{45, 90});
  CHECK(round_ends(sweep_of(scratch, text_of("random", rate, R"(, "runs": 9)"))) ==
        std::vector<std::int64_t>{0});

  using Places = std::vector<std::size_t>;
  CHECK(survivors({5, 1, 4, 2, 3, 9, 8, 7, 6}, 3) == Places{1, 3, 4});
  CHECK(survivors({5, 1, 4, 2, 3, 9, 8, 7}, 3) == Places{1, 3});
  CHECK(survivors({2, 1}, 3) == Places{1});
  CHECK(survivors({1, 1, 1, 1}, 2) == Places{0, 1});
  CHECK(survivors({kNone, 3, kNone, kNone}, 2) == Places{1});
  CHECK(survivors({kNone, kNone}, 2).empty());
}

TEST_CASE("a sweep that makes no sense is refused with file, key and what would") {
  const ScratchFolder scratch;
  const auto refused = [&](const std::string& json, const std::vector<std::string>& parts,
                           Fault fault = Fault::bad_data) {
    const std::string message = scratch.message_of(fault, [&] { sweep_of(scratch, json); });
    INFO(message);
    CHECK(contains(message, "DIR/s.json"));
    for (const std::string& part : parts) CHECK(contains(message, part));
  };
  const std::string lr = R"("learning_rate": [1])";
  refused("{\n\"method\": }", {"not valid JSON", "line 2"});
  refused("[]", {"not a JSON object"});
  refused(R"({"train": {}})", {"has no 'method'"});
  refused(text_of("rondom", lr), {"did you mean \"random\"?"});
  refused(text_of("grid", R"("learning_rat": [1])"),
          {"\"search\"", "no option --learning_rat", "did you mean --learning-rate?"},
          Fault::usage);
  refused(R"({"method": "grid", "train": {"wieght_decay": 0}, "search": {"lr": [1]}})",
          {"\"train\"", "did you mean --weight-decay?"}, Fault::usage);
  refused(text_of("grid", R"("output_dir": ["a"])"), {"the sweep sets it itself"}, Fault::usage);
  refused(text_of("grid", lr + R"(, "lr": [2])"), {"'learning_rate' in two places"});
  refused(text_of("grid", lr + ", " + lr), {"'learning_rate' twice"});
  refused(text_of("grid", R"("max_steps": [2])"), {"'max_steps' in two places"});
  refused(text_of("grid", ""), {"\"search\""});
  refused(text_of("grid", R"("lr": [])"), {"'lr' is an empty list"});
  refused(text_of("grid", R"("lr": 3)"), {"neither a list of values nor a range"});
  refused(text_of("grid", R"("lr": {"min": 0, "max": 1})"), {"has no 'steps'"});
  refused(text_of("grid", lr, R"(, "runs": 3)"), {"has no use for 'runs'"});
  refused(text_of("random", lr), {"has no 'runs'"});
  refused(text_of("random", lr, R"(, "runs": 0)"), {"'runs' is 0", "from 1"});
  refused(text_of("random", lr, R"(, "runs": 3, "sed": 1)"), {"did you mean 'seed'?"});
  refused(text_of("random", lr, R"(, "runs": 3, "metric": "eval_los")"),
          {"did you mean \"eval_loss\"?"});
  refused(text_of("random", R"("lr": {"min": 2, "max": 1})", R"(, "runs": 3)"),
          {"goes from 2 to 1"});
  refused(text_of("random", R"("lr": {"log_min": 0, "log_max": 1})", R"(, "runs": 3)"),
          {"begin above 0"});
  refused(text_of("random", R"("lr": {"min": 0, "maks": 1})", R"(, "runs": 3)"), {"has no 'max'"});
  refused(text_of("random", R"("packing": {"min": 0, "max": 1})", R"(, "runs": 3)"),
          {"takes no number"});
  refused(text_of("random", R"("block_size": {"min": 1.5, "max": 4})", R"(, "runs": 3)"),
          {"whole numbers"});
  refused(text_of("halving", lr, R"(, "runs": 3, "rounds": 4)"),
          {"max_steps is 90", "multiple of 27", "\"max_steps\": 81"});
  refused(R"({"method": "halving", "train": {}, "search": {"lr": [1]}, "runs": 3})",
          {"halving wants \"max_steps\""});
  refused(R"({"method": "halving", "train": {"max_steps": 90, "eval_steps": 20},
              "search": {"lr": [1]}, "runs": 3})",
          {"eval_steps is 20", "first round ends at step 30"});
  refused(text_of("halving", R"("eval_steps": [1])", R"(, "runs": 3)"), {"the same for all runs"});
}

TEST_CASE("a run's options are checked as quire train would, before it is made") {
  const ScratchFolder scratch;
  const std::string data = scratch.write("d.txt", "a");
  const auto message_for = [&](const std::string& train, const std::string& search, Fault fault) {
    const Sweep sweep = sweep_of(scratch, R"({"method": "grid", "train": {"config": "tiny", )" +
                                              train + R"(}, "search": {)" + search + "}}");
    return scratch.message_of(fault, [&] {
      for (const Configuration& c : configurations(sweep))
        check_configuration(sweep, c, "s.json", train_vocabulary());
    });
  };
  const std::string with_data = "\"data\": \"" + data + "\"";
  const std::string rate = message_for(with_data, R"("lr": [0.1, -1])", Fault::usage);
  CHECK(contains(rate, "--learning-rate is -1"));
  CHECK(contains(rate, "in s.json, for the run with {\"learning_rate\":-1}"));
  CHECK(contains(message_for(with_data, R"("packing": ["nune"])", Fault::usage), "choices: "));
  CHECK(contains(message_for(R"("data": "nowhere.txt")", R"("lr": [1])", Fault::bad_data),
                 "nowhere.txt"));
  CHECK(contains(message_for(R"("seed": 1)", R"("lr": [1])", Fault::usage), "--data is missing"));
  CHECK(
      contains(message_for(with_data + R"(, "validation_split": 0)", R"("lr": [1])", Fault::usage),
               "no eval_loss without held-out data"));
}

TEST_CASE("runs are ranked by round, then metric; diverged and failed ones come last") {
  const auto row = [](const char* name, RunStatus status, int round, double value) {
    return SweepRow{.name = name,
                    .configuration = {},
                    .result = {.status = status, .round = round, .value = value},
                    .curve = {}};
  };
  std::string order;
  for (const SweepRow& r :
       ranked({row("a", RunStatus::open, 0, kNone), row("b", RunStatus::failed, 1, kNone),
               row("c", RunStatus::diverged, 1, kNone), row("d", RunStatus::done, 1, 1.0),
               row("e", RunStatus::done, 2, 3.0), row("f", RunStatus::done, 2, 2.0),
               row("g", RunStatus::diverged, 2, kNone)})) {
    order += r.name;
  }
  CHECK(order == "fedgcba");
}

TEST_CASE("the picture is well-formed and has every run that has a value, to scale") {
  const ScratchFolder scratch;
  const Sweep sweep = sweep_of(
      scratch, text_of("grid", R"("lr": [1e-4, 1e-3, 1e-2], "text_column": ["a<b>", "c&d"])"));
  std::vector<SweepRow> rows;
  for (const Configuration& c : configurations(sweep)) {
    const double value = 2.0 + static_cast<double>(rows.size());
    rows.push_back({.name = run_name(rows.size()),
                    .configuration = c,
                    .result = {.status = RunStatus::done, .round = 1, .value = value},
                    .curve = {.training = {}, .validation = {{0, 9.0}, {10, value}}}});
  }
  rows.back().result = {.status = RunStatus::diverged, .round = 1};
  rows.back().curve.validation[1].second = kNone;
  const std::string svg = sweep_svg(sweep, rows);
  CHECK(xml_fault(svg) == "");
  CHECK(contains(svg, "a&lt;b&gt;"));
  std::vector<std::string> x;
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = svg.find('<', at)) != std::string::npos; ++at) {
    const std::string tag = svg.substr(at, svg.find('>', at) - at + 1);
    if (contains(tag, "class=\"run\"")) x.push_back(xml_attribute(tag, "cx"));
    lines += tag.starts_with("<polyline") ? 1 : 0;
  }
  CHECK(lines == 6);
  REQUIRE(x.size() == 10);  // five runs in two panels, the best last in each
  // Rates of 1e-2, 1e-3, 1e-3, 1e-4, 1e-4 on a logarithmic axis: the middle is in the middle.
  CHECK(x[1] == x[2]);
  CHECK(x[3] == x[4]);
  CHECK(std::stod(x[0]) - std::stod(x[1]) ==
        Approx(std::stod(x[1]) - std::stod(x[3])).margin(0.02));

  const std::string csv = sweep_csv(sweep, rows);
  CHECK(
      csv.starts_with("rank,run,status,round,step,eval_loss,seconds,learning_rate,text_column\n"
                      "1,run-001,done,1,0,2,0.0,0.0001,a<b>\n"));
  CHECK(contains(csv, "\n6,run-006,diverged,1,0,,0.0,0.01,c&d\n"));
}

TEST_CASE("a sweep's picture has round ticks, the search's scales, and no point on a label") {
  const ScratchFolder scratch;
  const Sweep sweep =
      sweep_of(scratch, text_of("random", R"("lr": {"log_min": 1.3e-5, "log_max": 2e-3},
                           "dropout": {"min": 0, "max": 0.3},
                           "weight_decay": [0.002, 0.005, 0.01])",
                                R"(, "runs": 12)"));
  std::vector<SweepRow> rows;
  for (int i = 0; i < 12; ++i) {
    const double value = 4.4127 + 0.0831 * i;
    rows.push_back({.name = run_name(rows.size()),
                    .configuration = {{"learning_rate", 1.3e-5 * std::pow(1.5, i)},
                                      {"dropout", 0.25 - 0.02 * i},
                                      {"weight_decay", i < 4   ? 0.002
                                                       : i < 8 ? 0.005
                                                               : 0.01}},
                    .result = {.status = RunStatus::done, .round = 1, .value = value},
                    .curve = {.training = {}, .validation = {{10, 9.0}, {120, value}}}});
  }
  const std::string svg = sweep_svg(sweep, rows);
  CHECK(xml_fault(svg) == "");
  CHECK(contains(svg, ">eval_loss by weight_decay<"));

  struct Tick {
    std::string text;
    double x, y;
    bool below;  // the axis: of the option; else left of it
  };
  std::vector<Tick> ticks;
  std::vector<std::array<double, 3>> points;  // x, y, radius
  for (std::size_t at = 0; (at = svg.find('<', at)) != std::string::npos; ++at) {
    const std::size_t end = svg.find('>', at);
    const std::string tag = svg.substr(at, end - at + 1);
    const auto number = [&](const char* name) { return std::stod(xml_attribute(tag, name)); };
    if (contains(tag, "class=\"tick\"")) {
      ticks.push_back({svg.substr(end + 1, svg.find('<', end) - end - 1), number("x"), number("y"),
                       contains(tag, "middle")});
    } else if (contains(tag, "class=\"run\"")) {
      points.push_back({number("cx"), number("cy"), number("r")});
    }
  }
  REQUIRE(points.size() == 36);
  // 1, 2 or 5 times a power of ten, or a multiple of such a step with at most two digits.
  std::string below;
  for (const Tick& tick : ticks) {
    INFO(tick.text);
    std::string digits;
    for (const char c : tick.text.substr(0, tick.text.find('e'))) {
      if (c >= '0' && c <= '9' && (c != '0' || !digits.empty())) digits += c;
    }
    while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
    CHECK(digits.size() <= 2);
    if (tick.below) below += tick.text + " ";
  }
  CHECK(below == "20 40 60 80 100 120 1e-05 0.0001 0.001 0.05 0.1 0.15 0.2 0.25 0.002 0.005 0.01 ");

  // Digits are 6 by 10 pixels.
  for (const Tick& tick : ticks) {
    const double width = 6.0 * static_cast<double>(tick.text.size());
    const double left = tick.below ? tick.x - width / 2 : tick.x - width;
    for (const auto& [x, y, r] : points) {
      const double radius = r + 4;  // not beside it either
      INFO(tick.text << " at " << tick.x << ", " << tick.y << "; point at " << x << ", " << y);
      CHECK((x + radius < left || x - radius > left + width || y + radius < tick.y - 10 ||
             y - radius > tick.y));
    }
    for (const Tick& other : ticks) {
      if (!tick.below || !other.below || other.y != tick.y || other.x <= tick.x) continue;
      CHECK(other.x - tick.x > width / 2 + 3.0 * static_cast<double>(other.text.size()));
    }
  }

  // Equal ratios of the rate, and of the list of 2, 5 and 10, are equal distances.
  const auto x_of = [&](const char* text) {
    const auto found = std::find_if(ticks.begin(), ticks.end(), [&](const Tick& tick) {
      return tick.below && tick.text == text;
    });
    REQUIRE(found != ticks.end());
    return found->x;
  };
  const double bound = 0.2;  // places of ticks are written with one decimal
  CHECK(x_of("0.01") - x_of("0.002") ==
        Approx((x_of("0.005") - x_of("0.002")) * std::log(5.0) / std::log(2.5)).margin(2 * bound));
  // Losses from 4.4 to 5.3 stay on a linear axis: equal steps of a loss are equal distances.
  for (int i = 2; i < 12; ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK(points[at][1] - points[at - 1][1] == Approx(points[1][1] - points[0][1]).margin(bound));
  }
  // 12 runs a panel, worst first: each rate is 1.5 times the one after it.
  const double decade = x_of("0.001") - x_of("0.0001");
  for (int i = 1; i < 12; ++i) {
    CHECK(points[static_cast<std::size_t>(i - 1)][0] - points[static_cast<std::size_t>(i)][0] ==
          Approx(decade * std::log10(1.5)).margin(bound));
  }
}
