#include "distributed/mpi_ranks.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>
#include <utility>

namespace quire {
namespace {

using Clock = std::chrono::steady_clock;

// A segment is added while the next one is on its way; two of them stay in a core's cache.
constexpr std::int64_t kSegment = std::int64_t{1} << 17;  // floats
constexpr auto kLookEvery = std::chrono::milliseconds(50);
// On other machines a rank that is asked to end, and one that has died, look the same.
constexpr auto kPatience = std::chrono::seconds(10);

/// Neither gone nor a zombie that nobody has asked about yet.
bool is_running(int process) {
  if (::kill(process, 0) != 0 && errno == ESRCH) return false;
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return ::kill(process, 0) == 0;
  const std::size_t end_of_name = line.rfind(')');
  return end_of_name == std::string::npos || end_of_name + 2 >= line.size() ||
         (line[end_of_name + 2] != 'Z' && line[end_of_name + 2] != 'X');
}

std::string error_text(int result) {
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(result, text.data(), &length);
  return {text.data(), static_cast<std::size_t>(length)};
}

}  // namespace

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text = {};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data(), static_cast<std::size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n"));
}

MpiRanks::MpiRanks(std::function<bool()> interrupted) : interrupted_(std::move(interrupted)) {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  meet();
}

MpiRanks::~MpiRanks() {
  if (lost_ || (std::uncaught_exceptions() > 0 && !failed_together_)) return;
  MPI_Comm_free(&comm_);
  MPI_Finalize();
}

/// Finds the ranks of this machine, and of those the processes that can be seen from here.
void MpiRanks::meet() {
  MPI_Comm local = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local));
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_size(local, &local_size_);
  const std::array<int, 2> mine = {rank_, static_cast<int>(::getpid())};
  std::vector<int> all(2 * local_size_);
  MPI_Allgather(mine.data(), 2, MPI_INT, all.data(), 2, MPI_INT, local);
  for (std::size_t i = 0; i < all.size(); i += 2) {
    // Each process in a container of its own has its own numbers, and cannot be watched.
    if (all[i] != rank_ && all[i + 1] != mine[1] && is_running(all[i + 1])) {
      peers_.push_back({all[i], all[i + 1]});
    }
  }
  MPI_Barrier(local);  // so that all have looked before one can end
  MPI_Comm_free(&local);
}

std::vector<double> MpiRanks::collect(std::span<const double> values) {
  std::vector<double> all(values.size() * size_);
  const int count = static_cast<int>(values.size());
  std::array<MPI_Request, 1> request = {MPI_REQUEST_NULL};
  check(MPI_Iallgather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, comm_,
                       request.data()));
  wait(request);
  return all;
}

void MpiRanks::reduce_scatter(Device& device, const View& values) {
  const std::int64_t part = values.count() / size_;
  device.synchronize();
  if (device.shares_host_memory()) return reduce_scatter(values.data<float>(), part);
  if (DeviceGroup* const group = group_of(device)) {
    group->reduce_scatter(values);
    return wait(*group);
  }
  host_row_.resize(values.count());
  device.copy_to_host(host_row_.data(), values.bytes(), values.size_bytes());
  device.synchronize();
  reduce_scatter(host_row_.data(), part);
  device.copy_to_device(values.data<float>() + rank_ * part, host_row_.data() + rank_ * part,
                        static_cast<std::size_t>(part) * sizeof(float));
}

void MpiRanks::all_gather(Device& device, const View& values) {
  const std::int64_t part = values.count() / size_;
  device.synchronize();
  if (device.shares_host_memory()) return all_gather(values.data<float>(), part);
  if (DeviceGroup* const group = group_of(device)) {
    group->all_gather(values);
    return wait(*group);
  }
  host_row_.resize(values.count());
  device.copy_to_host(host_row_.data() + rank_ * part, values.data<float>() + rank_ * part,
                      static_cast<std::size_t>(part) * sizeof(float));
  device.synchronize();
  all_gather(host_row_.data(), part);
  device.copy_to_device(values.bytes(), host_row_.data(), values.size_bytes());
}

DeviceGroup* MpiRanks::group_of(Device& device) {
  if (std::exchange(asked_for_group_, true)) return group_.get();
  constexpr std::size_t kLongest = 128;
  std::string name = device.name_new_group();
  std::vector<double> mine(1 + kLongest);  // its length, then its bytes
  mine[0] = static_cast<double>(name.size());
  for (std::size_t i = 0; i < name.size() && i < kLongest; ++i) {
    mine[1 + i] = static_cast<unsigned char>(name[i]);
  }
  const std::vector<double> all = collect(mine);
  for (std::size_t r = 0; r < all.size(); r += mine.size()) {
    if (all[r] == 0) return nullptr;
  }
  name.resize(static_cast<std::size_t>(all[0]));
  for (std::size_t i = 0; i < name.size(); ++i) {
    name[i] = static_cast<char>(static_cast<unsigned char>(all[1 + i]));
  }
  group_ = device.join_group(name, rank_, size_);
  return group_.get();
}

void MpiRanks::wait(DeviceGroup& group) {
  try {
    wait([&] { return group.done(); });
  } catch (const PeerLost&) {
    group.abort();
    throw;
  }
}

void MpiRanks::reduce_scatter(float* values, std::int64_t part) {
  incoming_.resize(2 * std::min(part, kSegment));
  const std::int64_t segments = (part + kSegment - 1) / kSegment;
  std::vector<MPI_Request> sent;
  for (int round = 0; round < size_ - 1; ++round) {
    const float* const outgoing = values + neighbour(-1 - round) * part;
    float* const sums = values + neighbour(-2 - round) * part;
    const auto length = [&](std::int64_t k) { return std::min(kSegment, part - k * kSegment); };
    const auto room = [&](std::int64_t k) { return incoming_.data() + k % 2 * kSegment; };
    std::array<MPI_Request, 2> received = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    const auto begin = [&](std::int64_t k) {
      received[k % 2] = receive(room(k), length(k), neighbour(-1));
      sent.push_back(send(outgoing + k * kSegment, length(k), neighbour(1)));
    };
    sent.clear();
    begin(0);
    for (std::int64_t k = 0; k < segments; ++k) {
      if (k + 1 < segments) begin(k + 1);
      wait(std::span(received).subspan(k % 2, 1));
      float* const to = sums + k * kSegment;
      const float* const from = room(k);
      for (std::int64_t i = 0; i < length(k); ++i) to[i] += from[i];
    }
    wait(sent);
  }
}

void MpiRanks::all_gather(float* values, std::int64_t part) {
  for (int round = 0; round < size_ - 1; ++round) {
    std::array<MPI_Request, 2> both = {
        receive(values + neighbour(-1 - round) * part, part, neighbour(-1)),
        send(values + neighbour(-round) * part, part, neighbour(1))};
    wait(both);
  }
}

std::vector<float> MpiRanks::gather(std::span<const float> part) {
  const auto count = static_cast<std::int64_t>(part.size());
  if (!first()) {
    std::array<MPI_Request, 1> request = {send(part.data(), count, 0)};
    wait(request);
    return {};
  }
  std::vector<float> row(part.size() * size_);
  std::copy(part.begin(), part.end(), row.begin());
  std::vector<MPI_Request> requests;
  for (int r = 1; r < size_; ++r) requests.push_back(receive(row.data() + r * count, count, r));
  wait(requests);
  return row;
}

MPI_Request MpiRanks::send(const float* values, std::int64_t count, int to) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Isend(values, static_cast<int>(count), MPI_FLOAT, to, 0, comm_, &request));
  return request;
}

MPI_Request MpiRanks::receive(float* values, std::int64_t count, int from) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(values, static_cast<int>(count), MPI_FLOAT, from, 0, comm_, &request));
  return request;
}

void MpiRanks::wait(std::span<MPI_Request> requests) {
  wait([&] {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                      MPI_STATUSES_IGNORE));
    return done != 0;
  });
}

void MpiRanks::wait(const std::function<bool()>& done) {
  Clock::time_point look_at = Clock::now() + kLookEvery;
  Clock::time_point interrupted_at = Clock::time_point::max();
  while (!done()) {
    std::this_thread::yield();  // there may be more ranks than cores
    if (Clock::now() < look_at) continue;
    look_after_peers(interrupted_at);
    look_at = Clock::now() + kLookEvery;
  }
}

void MpiRanks::look_after_peers(Clock::time_point& interrupted_at) {
  std::vector<int> gone;
  for (const Peer& peer : peers_) {
    if (!is_running(peer.process)) gone.push_back(peer.rank);
  }
  if (!gone.empty()) {
    lost_ = true;
    int speaker = 0;
    while (std::find(gone.begin(), gone.end(), speaker) != gone.end()) ++speaker;
    throw PeerLost("rank " + std::to_string(gone.front()) + " of " + std::to_string(size_) +
                       " has ended unexpectedly, and the run ends with it",
                   speaker);
  }
  if (!interrupted_()) return;
  interrupted_at = std::min(interrupted_at, Clock::now());
  if (Clock::now() - interrupted_at < kPatience) return;
  lost_ = true;
  throw PeerLost("the other ranks do not answer, and this one was asked to end", rank_);
}

void MpiRanks::check(int result) {
  if (result == MPI_SUCCESS) return;
  lost_ = true;
  throw PeerLost("the connection to the other ranks broke: " + error_text(result), rank_);
}

}  // namespace quire
