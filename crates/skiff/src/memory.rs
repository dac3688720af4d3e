//! What the allocator keeps and what is mapped of the program, given back to the kernel when what needed it is over.
#![allow(unsafe_code)]

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The allocator makes an arena for each thread that waits for another, and each keeps its own free pages. Work here is
/// done by as many threads as there are processors, and rarely two of them allocate at once.
const ARENAS: libc::c_int = 2;

/// What is as large as this is mapped by itself and given back when it is freed. Left alone, the allocator maps nothing of
/// a size that was freed once, and large bodies then leave holes between what stays.
const MAPPED: libc::c_int = 1 << 20;
/// So much may stay free at the end of the heap.
const KEPT: libc::c_int = 4 << 20;

/// Before threads are started.
pub fn bound() {
    // SAFETY: sets numbers, before another thread allocates
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// When a start is over: what it began is done then.
const STARTED: Duration = Duration::from_secs(5);

/// Gives free pages back, also those between pages in use. Takes milliseconds where there are many.
pub fn give_back() {
    // SAFETY: the allocator locks each arena while it looks at it
    unsafe { libc::malloc_trim(0) };
}

/// Gives the program's own pages back too. A start and rare requests use many that nobody needs afterwards; what is needed is mapped
/// again from the kernel's cache.
pub fn give_back_all() {
    give_back();
    for (start, bytes) in unchanged() {
        // SAFETY: these pages are as they are in the file, and come from there again
        if unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED) } != 0 {
            tracing::warn!(error = %std::io::Error::last_os_error(), "pages of the program are not given back");
        }
    }
}

/// The parts of the program in memory that nobody can write to: address and size of whole pages.
fn unchanged() -> Vec<(usize, usize)> {
    // SAFETY: the kernel gives each process the table of its program's parts; its address and length stay as they are
    let headers = unsafe {
        let (table, count) = (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM));
        match table {
            0 => &[][..],
            table => std::slice::from_raw_parts(table as *const libc::Elf64_Phdr, count as usize),
        }
    };
    let table = headers.as_ptr() as usize;
    // by how much the program lies elsewhere than it says
    let own = headers.iter().find(|part| part.p_type == libc::PT_PHDR);
    let moved = own.map_or(0, |own| table.wrapping_sub(own.p_vaddr as usize));
    let readable = headers
        .iter()
        .filter(|part| part.p_type == libc::PT_LOAD && part.p_flags & libc::PF_W == 0);
    let page = page();
    let whole = readable.map(|part| {
        let start = moved.wrapping_add(part.p_vaddr as usize);
        // a page that a part shares with the next one stays
        let (first, end) = (
            start.next_multiple_of(page),
            (start + part.p_memsz as usize) / page * page,
        );
        (first, end.saturating_sub(first))
    });
    whole.filter(|(_, bytes)| *bytes > 0).collect()
}

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: asks for a number
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Gives back what the start needed, once that is over.
pub async fn give_back_start(stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(STARTED) => {}
    }
    if let Err(error) = tokio::task::spawn_blocking(give_back_all).await {
        tracing::error!(%error, "memory is not given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of the program that are mapped.
    fn mapped() -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn pages_of_the_program_are_given_back_and_come_again() {
        let parts = unchanged();
        let of_program: usize = parts.iter().map(|(_, bytes)| bytes).sum();
        assert!(of_program > 1 << 20, "{parts:?}");
        for (start, bytes) in parts {
            for page in (start..start + bytes).step_by(page()) {
                // SAFETY: a page of the program, which may be read
                std::hint::black_box(unsafe { std::ptr::read_volatile(page as *const u8) });
            }
        }
        let before = mapped();
        give_back_all();
        let after = mapped();
        assert!(after < before / 2, "{before} KiB before, {after} KiB after");
    }
}
