// The page of a run: whole in itself, and its curves to be read.
#include "report/html_report.h"

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/text.h"
#include "tests/support/xml.h"

using namespace quire;
using namespace quire::test;

TEST_CASE("the page of a report is whole in itself, whatever the log holds") {
  std::string log = "{\"step\":0,\"eval_loss\":4.5}\nnot JSON\n";
  for (int step = 1; step <= 5000; ++step) {
    log += "{\"step\":" + std::to_string(step) +
           ",\"loss\":" + std::to_string(step == 3210 ? 9.75 : 4 + step * 1e-4) + "}\n";
  }
  log += "{\"step\":5000,\"loss\":null}\n";
  log += "{\"step\":5000,\"warning\":\"<script>alert(1)</script>\"}\n";
  log += "{\"step\":7,\"prompt\":\"a&b\",\"sample\":\"<b>\\n\"}\n{\"step\":5000,\"lo";
  const std::string page =
      report_html({.log = log, .options = "{\"model\": \"a/b <1>\", \"learning_rate\": 5e-05}"});
  CHECK(contains(page, "<title>b &lt;1&gt;: validation loss 4.5</title>"));
  CHECK(contains(page, "<td>learning_rate</td><td>5e-05</td>"));
  CHECK(contains(page, "&lt;script&gt;"));
  CHECK(contains(page, "a&amp;b</span>&lt;b&gt;"));
  CHECK_FALSE(contains(page, "<script"));
  CHECK_FALSE(contains(page, "http"));
  CHECK_FALSE(contains(page, "Learning rate"));  // the log has none: no empty picture
  CHECK(count_of(page, "<polyline") == 1);
  CHECK(count_of(page, "<circle") == 1);  // the one evaluation
  // Thinned, with the one step that stands out: it is the top of the picture.
  CHECK(page.size() < 20'000);
  CHECK(contains(page, ",16.0 "));
}

TEST_CASE("the title of a report says what was trained on what, when, how long, how well") {
  const std::string log =
      "{\"step\":0,\"eval_loss\":5}\n{\"step\":10,\"loss\":3.5}\n"
      "{\"step\":10,\"eval_loss\":3}\n{\"step\":20,\"loss\":2.5}\n"
      "{\"step\":20,\"eval_loss\":3.25}\n";
  ReportPage page = {.log = log,
                     .options = R"({"model": "models/small/", "data": ["d/a.csv", "e/"]})",
                     .set = R"({"max_steps": 20})",
                     .began = "2026-11-27 17:33",
                     .seconds = 125,
                     .state = "done"};
  const std::string html = report_html(page);
  CHECK(contains(html,
                 "<h1>small trained on a.csv and e, 2026-11-27 17:33, 2m 05s: validation loss "
                 "3.25</h1>"));
  CHECK(contains(html,
                 "<p>Done, at step 20. Validation loss 3.25 (perplexity 25.79), from 5 "
                 "(perplexity 148.4) at step 0; the best, 3 (perplexity 20.09), at step 10.</p>"));
  CHECK(contains(html, "<h2>Options that were set</h2>\n<table>\n<tr><td>max_steps</td>"));

  page.resumed_step = 10;
  page.options = R"({"model": "", "config": "c.json", "data": ["a", "b", "c", "d", "e"]})";
  CHECK(contains(report_html(page), "<h1>A new model of c.json trained on a, b, c and 2 more, "));
  CHECK(contains(report_html(page), "gone on from step 10, when the time began"));
  page.log = "{\"step\":10,\"loss\":3.5}\n";
  CHECK(contains(report_html(page), ": training loss 3.5</h1>"));
}

TEST_CASE(
    "curves of a report have named axes, round ticks, points for evaluations, no text on them") {
  std::string log;
  for (int step = 1; step <= 400; ++step) {
    log += fmt::format("{{\"step\":{},\"loss\":{},\"learning_rate\":{}}}\n", step,
                       4.0 - step * 0.0071, 1.5e-5 * (400 - step) / 400);
    if (step % 100 == 0) log += fmt::format("{{\"step\":{},\"eval_loss\":3.3}}\n", step);
  }
  const std::string page = report_html({.log = log, .options = "{}"});
  CHECK(count_of(page, "<circle") == 4);
  CHECK(count_of(page, ">step</text>") == 2);
  CHECK(contains(page, ">nats a token</text>"));
  CHECK(contains(page, ">learning rate</text>"));
  for (const char* tick : {"1.5", "2", "3.5", "100", "400", "2e-06", "1.4e-05"}) {
    INFO(tick);
    CHECK(contains(page, std::string(">") + tick + "</text>"));
  }
  // The key is text above each picture; in the picture only axes are named: ticks lie left of or
  // below the frame of all curves.
  CHECK(contains(page, "●</b> validation 3.3</span>"));
  for (std::size_t at = 0; (at = page.find("<text ", at)) != std::string::npos; ++at) {
    const std::string tag = page.substr(at, page.find('>', at) - at + 1);
    INFO(tag);
    const double x = std::stod(xml_attribute(tag, "x")), y = std::stod(xml_attribute(tag, "y"));
    CHECK((x < 74 || y > 194 + 12));
  }
  // On 400 pixels a picture is as wide as the screen.
  CHECK(contains(page, "minmax(min(100%,24em),1fr)"));
  CHECK(contains(page, "<meta name=\"viewport\" content=\"width=device-width\">"));
}

TEST_CASE("a page of a run that has only begun, or is level, has no holes in it") {
  for (const char* log : {"", "{\"step\":0,\"eval_loss\":4.5}\n",
                          "{\"step\":1,\"loss\":0}\n{\"step\":2,\"loss\":0}\n"}) {
    INFO(log);
    const std::string page = report_html({.log = log, .options = "{}"});
    CHECK_FALSE(contains(page, "nan"));
    CHECK_FALSE(contains(page, "inf"));
  }
}
