// A heap in large pages, for a program's quick start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#include <sys/mman.h>
#endif

// LiteRT fills some 20 MB while it starts, page by page: a quarter of the time to the first faces, unless the heap is
// one piece of large pages.
inline void use_large_pages() {
#if defined(__GLIBC__) && defined(MADV_HUGEPAGE)
  constexpr std::size_t kHeap = std::size_t{32} << 20, kPage = std::size_t{2} << 20;
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(kHeap));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(2 * kHeap));
  mallopt(M_TOP_PAD, static_cast<int>(kHeap));
  void* heap = std::malloc(kPage);
  const std::uintptr_t start = (reinterpret_cast<std::uintptr_t>(heap) + kPage - 1) / kPage * kPage;
  madvise(reinterpret_cast<void*>(start), kHeap - kPage, MADV_HUGEPAGE);
  std::free(heap);
#endif
}
