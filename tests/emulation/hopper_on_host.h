/* A model of Hopper's instructions, kernels/cuda/hopper.h, as the PTX ISA says what they do. Part
 * of cuda_on_host.h.
 *
 * Shared memory has the hardware's 32-bit addresses, from SHARED_BASE on, a multiple of 16 and no
 * more; the swizzle and the matrix descriptors are decoded from these. A box arrives when its
 * barrier is waited for, and wgmma reads and adds when it is waited for, as late as they may; in
 * the second order of threads boxes arrive at once, in the third products are done at once. Fails
 * for what the hardware would refuse, get wrong or hang at: misaligned addresses, unexpected bytes,
 * barriers that never complete, products by a part of a group, without a fence or never waited for.
 */
#pragma once
#include <map>

namespace hw_host {

enum : uint32_t { SHARED_BASE = 0x410 }; /* where dynamic shared memory begins */

inline uint32_t shared_address(const void *p) {
    return (uint32_t)((const unsigned char *)p - dynamic_shared) + SHARED_BASE;
}
inline unsigned char *shared_at(uint32_t address) { return dynamic_shared + address - SHARED_BASE; }
/* The 128-byte swizzle: address bits 4 to 6 ^ 7 to 9. */
inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

/* What tests/emulation/device.py encodes, in the 128 bytes of a CUtensorMap. */
struct TensorMap {
    uint64_t address, size[5], stride[4]; /* stride in bytes, of dimensions 1 to 4 */
    uint16_t box[5];
    uint8_t step[5], rank, type, unused[31];
};
static_assert(sizeof(TensorMap) == 128);
enum { BFLOAT16 = 9, TFLOAT32 = 11 }; /* CUtensorMapDataType */

struct Box { /* on its way */
    unsigned char *to;
    const TensorMap *map;
    int at[5];
};
struct Barrier {
    uint32_t count, pending, parity = 0;
    long long bytes = 0;
    bool made = false; /* in the eyes of bulk copies */
    std::vector<Box> boxes;
};
struct Product {
    uint64_t a, b;
    float *d;
    int columns;
    bool tf32;
    const uint32_t *registers = nullptr; /* of a, instead of a descriptor */
    bool operator==(const Product &x) const { return a == x.a && b == x.b; }
};
struct Products { /* of a thread */
    std::vector<Product> open;
    std::vector<std::vector<Product>> groups;
    bool fenced = false;
    size_t asked = 0;
};
inline std::map<const uint64_t *, Barrier> barriers;
inline std::vector<Products> products;          /* of the threads */
inline std::vector<std::vector<Product>> asked; /* of groups of 128 threads: what all have to ask */
inline uint64_t tries;                          /* of waits, since anything went on */

inline void hopper_begins() {
    barriers.clear();
    products.assign(fibres.size(), {});
    asked.assign((fibres.size() + 127) / 128, {});
    tries = 0;
}
inline void hopper_ends() {
    for (auto &[at, barrier] : barriers)
        if (!barrier.boxes.empty() || barrier.bytes) fail("a bulk copy was never waited for");
    for (size_t i = 0; i < products.size(); i++) {
        if (!products[i].open.empty() || !products[i].groups.empty())
            fail("products were never waited for");
        if (i < (size_t)block.x * block.y * block.z && products[i].asked != asked[i / 128].size())
            fail("a part of a group asked for products");
    }
}

inline Barrier &barrier_at(const uint64_t *p) {
    auto found = barriers.find(p);
    if (found == barriers.end()) fail("no barrier has been made there");
    return found->second;
}
inline void advance(Barrier &b) { /* the phase ends, once all is there */
    if (b.pending || b.bytes) return;
    b.pending = b.count;
    b.parity ^= 1;
    tries = 0;
}

/* An element as it arrives: of TFLOAT32 rounded to nearest. The manual does not say which way
 * halves go: here to even, and away from 0 in the order where copies come at once. */
inline void land_element(const TensorMap &map, unsigned char *to, const unsigned char *from) {
    if (map.type == BFLOAT16) {
        std::memcpy(to, from, 2);
        return;
    }
    uint32_t bits;
    std::memcpy(&bits, from, 4);
    if ((bits & 0x7fffffff) < 0x7f800000)
        bits = (bits + 0xfff + (copies_at_once ? 1 : bits >> 13 & 1)) & 0xffffe000;
    std::memcpy(to, &bits, 4);
}

inline void land(Barrier &barrier, const Box &box) {
    const TensorMap &map = *box.map;
    uint32_t size = map.type == BFLOAT16 ? 2 : 4, count[5], to = shared_address(box.to), all = 1;
    for (int d = 0; d < 5; d++) {
        count[d] = d < map.rank ? (map.box[d] + map.step[d] - 1) / map.step[d] : 1;
        all *= count[d];
    }
    for (uint32_t i = 0; i < all; i++) {
        uint32_t left = i;
        const unsigned char *from = (const unsigned char *)map.address;
        bool there = true;
        for (int d = 0; d < map.rank; d++) {
            int64_t at = box.at[d] + (int64_t)(left % count[d]) * map.step[d];
            left /= count[d];
            there &= at >= 0 && at < (int64_t)map.size[d];
            from += at * (d ? (int64_t)map.stride[d - 1] : size);
        }
        unsigned char *element = shared_at(swizzled(to + i * size));
        if (there)
            land_element(map, element, from);
        else
            std::memset(element, 0, size);
    }
    barrier.bytes -= (long long)all * size;
    if (barrier.bytes < 0) fail("more bytes have arrived than were expected");
    advance(barrier);
}

/* Where byte `at` of row number `row` lies in the tile that a matrix descriptor describes. */
inline const unsigned char *in_matrix(uint64_t descriptor, int row, int at) {
    return shared_at(swizzled((uint32_t)(descriptor & 0x3fff) * 16 +
                              (uint32_t)(descriptor >> 32 & 0x3fff) * 16 * (row / 8) +
                              row % 8 * 128 + at));
}
inline void check_matrix(uint64_t descriptor) {
    if (descriptor >> 62 != 1) fail("a matrix descriptor without the 128-byte swizzle");
    if (descriptor >> 49 & 7 || (descriptor & 0x3fff) * 16 % 1024 >= 128)
        fail("a matrix whose pattern does not begin at a multiple of 1024 bytes");
    if ((descriptor >> 32 & 0x3fff) * 16 % 1024) fail("a matrix whose groups of 8 rows overlap");
}
inline float operand(const Product &p, uint64_t descriptor, int row, int k) {
    uint32_t bits = 0;
    if (p.tf32) {
        std::memcpy(&bits, in_matrix(descriptor, row, 4 * k), 4);
        bits &= 0xffffe000;
    } else {
        std::memcpy((char *)&bits + 2, in_matrix(descriptor, row, 2 * k), 2);
    }
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
/* Element k of a lane's row, 0 or 1 for 8 rows further down, of TF32. */
inline float in_registers(const Product &p, int half, int k) {
    uint32_t bits = p.registers[half + k / 4 * 2] & 0xffffe000;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
/* A thread's part. of_lane(i) is the same product of lane i of the warp. */
template <class Lanes> void multiply(const Product &p, Lanes &&of_lane) {
    unsigned warp = current->number % 128 / 32, lane = current->number % 32;
    const int terms = p.tf32 ? 8 : 16;
    float a[2][16], b[16];
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < terms; k++)
            a[half][k] = p.registers ? in_registers(of_lane(lane / 4 * 4 + k % 4), half, k)
                                     : operand(p, p.a, 16 * warp + lane / 4 + 8 * half, k);
    for (int i = 0; i < p.columns / 8; i++)
        for (int e = 0; e < 2; e++) {
            for (int k = 0; k < terms; k++) b[k] = operand(p, p.b, 8 * i + lane % 4 * 2 + e, k);
            for (int half = 0; half < 2; half++) {
                float sum = 0;
                for (int k = 0; k < terms; k++) sum += a[half][k] * b[k];
                p.d[4 * i + 2 * half + e] += sum;
            }
        }
}

} // namespace hw_host

struct HwTensorMap {
    hw_host::TensorMap map;
};

inline uint32_t hw_shared_address(const void *p) { return hw_host::shared_address(p); }

inline void hw_barrier_make(uint64_t *barrier, uint32_t count) {
    if (hw_host::shared_address(barrier) % 8) hw_host::fail("a misaligned barrier");
    hw_host::Barrier made;
    made.count = made.pending = count;
    hw_host::barriers[barrier] = made;
}
inline void hw_barriers_made() {
    for (auto &[at, barrier] : hw_host::barriers) barrier.made = true;
}
inline void hw_barrier_arrive(uint64_t *at) {
    hw_host::Barrier &barrier = hw_host::barrier_at(at);
    if (!barrier.pending) hw_host::fail("more have arrived at a barrier than it is for");
    barrier.pending--;
    hw_host::tries = 0;
    hw_host::advance(barrier);
}
inline void hw_barrier_expect(uint64_t *at, uint32_t bytes) {
    hw_host::barrier_at(at).bytes += bytes;
    hw_barrier_arrive(at);
}
inline void hw_barrier_wait(uint64_t *at, uint32_t parity) {
    hw_host::Barrier &barrier = hw_host::barrier_at(at);
    while (barrier.parity == parity) { /* the phase of this parity goes on */
        if (!barrier.boxes.empty()) {
            hw_host::Box box = barrier.boxes.front();
            barrier.boxes.erase(barrier.boxes.begin());
            hw_host::land(barrier, box);
        } else {
            if (++hw_host::tries > 100 * hw_host::fibres.size())
                hw_host::fail("a barrier is waited for in vain");
            hw_host::leave_fibre();
        }
    }
    hw_host::tries = 0;
}

template <class... At>
void hw_copy_box(void *to, const HwTensorMap &map, uint64_t *at, At... coordinates) {
    hw_host::Barrier &barrier = hw_host::barrier_at(at);
    if (!barrier.made) hw_host::fail("bulk copies do not see this barrier yet");
    if (sizeof...(At) != map.map.rank) hw_host::fail("coordinates of another rank");
    if (hw_host::shared_address(to) % 1024) hw_host::fail("a misaligned box");
    hw_host::Box box = {(unsigned char *)to, &map.map, {coordinates...}};
    if (hw_host::copies_at_once)
        hw_host::land(barrier, box);
    else
        barrier.boxes.push_back(box);
}

template <int N> void hw_fewer_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256); }
template <int N> void hw_more_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256); }

inline void hw_wgmma_fence() { hw_host::products[hw_host::current->number].fenced = true; }
inline void hw_wgmma_commit() {
    hw_host::Products &own = hw_host::products[hw_host::current->number];
    own.groups.push_back(std::move(own.open));
    own.open.clear();
    own.fenced = false;
}
template <int N> void hw_wgmma_settle(float (&)[N]) {}
template <int LEFT> void hw_wgmma_wait() {
    hw_host::wait("wgmma"); /* the threads of a warp wait as one */
    unsigned first = hw_host::current->number / 32 * 32;
    auto &groups = hw_host::products[hw_host::current->number].groups;
    size_t over = groups.size() > LEFT ? groups.size() - LEFT : 0;
    for (size_t g = 0; g < over && !hw_host::products_at_once; g++)
        for (size_t i = 0; i < groups[g].size(); i++)
            hw_host::multiply(groups[g][i], [&](unsigned lane) -> const hw_host::Product & {
                return hw_host::products[first + lane].groups[g][i];
            });
    hw_host::wait("the end of wgmma");
    groups.erase(groups.begin(), groups.begin() + over);
}
namespace hw_host {
inline void ask(Product product) {
    Products &own = products[current->number];
    if (!own.fenced) fail("products without a fence");
    check_matrix(product.b);
    auto &group = asked[current->number / 128];
    if (own.asked == group.size()) group.push_back(product);
    if (!(group[own.asked++] == product)) fail("a group asks for different products");
    own.open.push_back(product);
    if (!products_at_once) return;
    unsigned first = current->number / 32 * 32;
    wait("wgmma at once");
    multiply(product, [&](unsigned lane) { return products[first + lane].open.back(); });
    wait("the end of wgmma at once");
}
} // namespace hw_host
template <bool TF32, int R> void hw_wgmma(float (&d)[R], uint64_t a, uint64_t b) {
    hw_host::check_matrix(a);
    hw_host::ask({a, b, d, 2 * R, TF32});
}
inline void hw_wgmma(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
    hw_host::ask({0, b, d, 128, true, a});
}
