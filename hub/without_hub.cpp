// For a build without libcurl or OpenSSL: what is asked for is refused, with what to install.
#include "base/error.h"
#include "hub/download.h"
#include "hub/upload.h"

namespace quire {
namespace {

[[noreturn]] void refuse() {
  throw Error(Fault::device, "this build of Quire cannot reach the Hub",
              {"it was built without libcurl or without OpenSSL"},
              "apt-get install libcurl4-openssl-dev libssl-dev, and build it again");
}

}  // namespace

HubSettings HubSettings::from_environment() {
  refuse();
}
HubModel HubModel::parse(const std::string&) {
  refuse();
}
Downloaded download_model(const HubSettings&, const HubModel&, const std::vector<std::string>&,
                          const DownloadCallbacks&) {
  refuse();
}
UploadPlan plan_upload(const std::filesystem::path&, const std::vector<std::string>&) {
  refuse();
}
bool hash_files(UploadPlan&, const UploadCallbacks&) {
  refuse();
}
void check_upload(const HubSettings&, const HubModel&) {
  refuse();
}
Uploaded upload_model(const HubSettings&, const HubModel&, UploadPlan, const UploadOptions&,
                      const UploadCallbacks&) {
  refuse();
}
std::string HubModel::text() const {
  return name;
}

}  // namespace quire
