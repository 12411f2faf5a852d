#include "cli/corpus_flags.h"

#include <fmt/format.h>

#include "base/text.h"
#include "cli/terminal.h"

namespace quire {

void CorpusFlags::add_to(Flags& flags, CorpusOptions& corpus) {
  flags.add("text-column", corpus.text_column, "NAME", "column of a CSV, field of a JSONL");
  flags.add("template", corpus.template_text, "TEXT",
            "a record from several columns: \"{name} => {emoji}\"");
  flags.add("line-by-line", corpus.line_by_line, "every line of a .txt is a record");
  flags.add("document-separator", corpus.document_separator, "TEXT",
            "a line of a .txt that is this text divides records: '<|endoftext|>', '***'");
  flags.add_choice(
      "loss-on", loss_on_, {"all", "completion"},
      "completion: learn what the template's last column holds, not what is before it");
  flags.add("clean", clean_, "STEPS",
            "nfc, control, repair-mojibake, long-lines, duplicates: those named are made, in this "
            "order, and counted");
  flags.add("max-line-length", corpus.cleaning.max_line_length, "N",
            "characters a line may have for --clean long-lines", at_least(1));
}

void CorpusFlags::finish(CorpusOptions& corpus) const {
  corpus.loss_on_completion = loss_on_ == "completion";
  corpus.cleaning.steps = cleaning_steps(clean_);
}

void note_cleaning(const std::vector<StepCount>& counts) {
  for (const StepCount& count : counts) {
    note(fmt::format("  {:<16}{} changed, {} dropped", name_of(count.step),
                     counted(count.changed, "record"), with_commas(count.dropped)));
  }
}

}  // namespace quire
