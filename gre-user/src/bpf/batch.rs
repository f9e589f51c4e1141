//! Many elements of a map in one call to bpf(2) (Linux 5.6, per-CPU arrays 5.13): with 100,000 tunnels, a call for each element
//! is what takes the time. Aya has no such calls.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use aya::Pod;
use aya::maps::{MapData, MapError, MapInfo, MapType};

use super::{bpf, number};

// `enum bpf_cmd` of linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;

/// Bytes of values that one call moves, at most: enough for the call itself to cost nothing.
const CHUNK: usize = 1 << 20;
/// Elements that one call moves, at most.
const MOST: usize = 16_384;
/// How often a whole map is read again because it changed while it was read.
const TRIES: usize = 8;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where the kernel has got to in a map: at most a key long, and never less than a bucket's number.
type Position = [u64; 8];

/// All elements of a hash or longest-prefix map, in no order.
///
/// Each is read as a whole; the map may change meanwhile.
///
/// # Errors
///
/// If the map's keys or values have other sizes, and the kernel's.
pub fn read_all<K: Pod, V: Pod>(map: &MapData) -> Result<Vec<(K, V)>, MapError> {
    let info = plain_sizes::<K, V>(map)?;
    for _ in 0..TRIES {
        match try_read_all(map, &info) {
            // An element went while a longest-prefix map was read (`generic_map_lookup_batch()`).
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result.map_err(|io_error| syscall_error("bpf_map_lookup_batch", io_error)),
        }
    }
    let busy = io::Error::from_raw_os_error(libc::EINTR);
    Err(syscall_error("bpf_map_lookup_batch", busy))
}

fn try_read_all<K: Pod, V: Pod>(map: &MapData, info: &MapInfo) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    let (mut keys, mut values): (Vec<K>, Vec<V>) = (Vec::new(), Vec::new());
    // A call gives whole buckets of a hash map, so there must be room for the fullest.
    let mut room = (CHUNK / mem::size_of::<(K, V)>())
        .clamp(1, MOST)
        .min(info.max_entries().max(64) as usize);
    let mut position = None;
    loop {
        keys.clear();
        keys.reserve(room);
        values.clear();
        values.reserve(room);
        let mut next = Position::default();
        let mut request = Batch {
            in_batch: position.as_ref().map_or(0, |at: &Position| at.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map_fd: number(&map.fd().as_fd()),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the layout of this command. Positions have room for the longest key (`sizes`), and `keys` and `values` for
        // `room` elements of the map's own sizes; all outlive the call.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut request) };
        let ended = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = (request.count as usize).min(room);
        // SAFETY: the kernel has written `count` elements, and whatever it writes is a valid `Pod`.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        all.extend(keys.iter().copied().zip(values.iter().copied()));
        if ended {
            return Ok(all);
        }
        position = Some(next);
    }
}

/// Writes elements of a hash, longest-prefix or plain array map, each as a whole, in this order.
///
/// # Errors
///
/// If the map's keys or values have other sizes, and the kernel's, E2BIG (and ENOSPC of longest-prefix maps) if the map is full;
/// the elements before are then written.
pub fn write<K: Pod, V: Pod>(map: &MapData, elements: impl IntoIterator<Item = (K, V)>) -> Result<(), MapError> {
    plain_sizes::<K, V>(map)?;
    let mut elements = elements.into_iter();
    let room = (CHUNK / mem::size_of::<(K, V)>()).clamp(1, MOST);
    loop {
        let (keys, values): (Vec<K>, Vec<V>) = elements.by_ref().take(room).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        update(map, &keys, &values, keys.len())?;
    }
}

/// Writes elements of a per-CPU array: of each index, one value for each possible CPU.
///
/// # Errors
///
/// If there are not as many values, and the errors of [`write`].
pub fn write_per_cpu<V: Pod>(map: &MapData, indices: &[u32], values: &[V], cpus: usize) -> Result<(), MapError> {
    let info = per_cpu_sizes::<V>(map)?;
    if values.len() != indices.len() * cpus {
        return Err(invalid_value::<V>(&info));
    }
    let room = (CHUNK / (cpus * mem::size_of::<V>()).max(1)).clamp(1, MOST);
    for (indices, values) in indices.chunks(room).zip(values.chunks(room * cpus.max(1))) {
        update(map, indices, values, indices.len())?;
    }
    Ok(())
}

fn update<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V], count: usize) -> Result<(), MapError> {
    let mut request = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: count as u32,
        map_fd: number(&map.fd().as_fd()),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the layout of this command; the callers have compared sizes and lengths, and both slices outlive the call.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut request) }
        .map(drop)
        .map_err(|io_error| syscall_error("bpf_map_update_batch", io_error))
}

/// Hands on the elements of a per-CPU array at these rising indices: of each, one value for each of the possible CPUs.
///
/// # Errors
///
/// If the map's values have another size, an index is beyond its end, and the kernel's.
pub fn read_per_cpu<V: Pod>(
    map: &MapData,
    indices: impl Iterator<Item = u32>,
    cpus: usize,
    mut each: impl FnMut(u32, &[V]),
) -> Result<(), MapError> {
    let info = per_cpu_sizes::<V>(map)?;
    let room = (CHUNK / (cpus * mem::size_of::<V>()).max(1)).clamp(1, MOST);
    let (mut keys, mut values): (Vec<u32>, Vec<V>) = (Vec::with_capacity(room), Vec::with_capacity(room * cpus));
    let mut indices = indices.peekable();
    while let Some(first) = indices.next() {
        if first >= info.max_entries() {
            return Err(MapError::OutOfBounds {
                index: first,
                max_entries: info.max_entries(),
            });
        }
        // What lies between is read as well: that costs less than another call.
        let mut wanted = vec![first];
        while let Some(next) = indices.next_if(|&next| ((next.saturating_sub(first)) as usize) < room) {
            wanted.push(next);
        }
        let last = wanted.last().copied().unwrap_or(first).min(info.max_entries() - 1);
        let count = (last.saturating_sub(first) + 1) as usize;
        keys.clear();
        values.clear();
        let (before, mut next) = (first.wrapping_sub(1), 0u32);
        let mut request = Batch {
            in_batch: if first == 0 { 0 } else { (&raw const before) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: count as u32,
            map_fd: number(&map.fd().as_fd()),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the layout of this command. Positions are the array's keys; `count` is at most `room`, for which there is room in
        // `keys` and, `cpus` times, in `values`; all outlive the call.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut request) };
        match result {
            Ok(_) => {}
            // The array's end.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(syscall_error("bpf_map_lookup_batch", error)),
        }
        let read = (request.count as usize).min(count);
        // SAFETY: the kernel has written `read` elements, and whatever it writes is a valid `Pod`.
        unsafe { values.set_len(read * cpus) };
        for index in wanted {
            let at = index.saturating_sub(first) as usize * cpus;
            let Some(of_index) = values.get(at..at + cpus) else {
                return Err(MapError::OutOfBounds {
                    index,
                    max_entries: info.max_entries(),
                });
            };
            each(index, of_index);
        }
    }
    Ok(())
}

/// That a map has keys and values of these sizes.
fn sizes<K, V>(map: &MapData) -> Result<MapInfo, MapError> {
    let info = map.info()?;
    if info.key_size() as usize != mem::size_of::<K>() || mem::size_of::<K>() > mem::size_of::<Position>() {
        return Err(MapError::InvalidKeySize {
            size: mem::size_of::<K>(),
            expected: info.key_size() as usize,
        });
    }
    if info.value_size() as usize != mem::size_of::<V>() {
        return Err(invalid_value::<V>(&info));
    }
    Ok(info)
}

/// The same of a map that has one value for all CPUs.
fn plain_sizes<K, V>(map: &MapData) -> Result<MapInfo, MapError> {
    let info = sizes::<K, V>(map)?;
    match info.map_type()? {
        MapType::Hash | MapType::LpmTrie | MapType::Array => Ok(info),
        other => Err(MapError::InvalidMapType { map_type: other as u32 }),
    }
}

/// The same of a per-CPU array. The kernel rounds each CPU's value up to 8 bytes; none of ours needs that.
fn per_cpu_sizes<V>(map: &MapData) -> Result<MapInfo, MapError> {
    let info = sizes::<u32, V>(map)?;
    match info.map_type()? {
        MapType::PerCpuArray if mem::size_of::<V>().is_multiple_of(8) => Ok(info),
        MapType::PerCpuArray => Err(invalid_value::<V>(&info)),
        other => Err(MapError::InvalidMapType { map_type: other as u32 }),
    }
}

fn invalid_value<V>(info: &MapInfo) -> MapError {
    MapError::InvalidValueSize {
        size: mem::size_of::<V>(),
        expected: info.value_size() as usize,
    }
}

fn syscall_error(call: &'static str, io_error: io::Error) -> MapError {
    MapError::SyscallError(aya::sys::SyscallError { call, io_error })
}
