//! The hashes of eight nonces at once, where the CPU has wide registers and no instructions for SHA-256 itself.
//!
//! Most of what a share costs this program is its search, and what it takes is taken from the pool on shared cores.

use super::{Header, START};

/// Hashes at once: 32-bit words of one AVX2 register.
pub const LANES: usize = 8;

/// A word of each hash.
type Lanes = [u32; LANES];

/// As [`Header::tops`]; none where one at a time is as fast, or all there is.
pub fn tops(header: &Header, first_nonce: u32) -> Option<[u64; LANES]> {
    #[cfg(target_arch = "x86_64")]
    if !is_x86_feature_detected!("sha") {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the CPU has both, and the function asks for nothing more.
            return Some(unsafe { tops_avx512(header, first_nonce) });
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2, and the function asks for nothing more.
            return Some(unsafe { tops_avx2(header, first_nonce) });
        }
    }
    let _ = (header, first_nonce);
    None
}

/// AVX-512 rotates in one instruction.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn tops_avx512(header: &Header, first_nonce: u32) -> [u64; LANES] {
    tops_in_lanes(header, first_nonce)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn tops_avx2(header: &Header, first_nonce: u32) -> [u64; LANES] {
    tops_in_lanes(header, first_nonce)
}

/// Written so that the compiler makes wide instructions of it, in whatever function it is inlined into.
#[inline(always)]
fn tops_in_lanes(header: &Header, first_nonce: u32) -> [u64; LANES] {
    let (words, _) = header.last.as_chunks();
    let mut block: [Lanes; 16] = std::array::from_fn(|at| [u32::from_be_bytes(words[at]); LANES]);
    block[3] = std::array::from_fn(|lane| first_nonce.wrapping_add(lane as u32).swap_bytes());
    let inner = compress(&header.midstate, block);

    let mut block = [[0; LANES]; 16];
    block[..8].copy_from_slice(&inner);
    block[8] = [0x8000_0000; LANES];
    block[15] = [32 * 8; LANES];
    let outer = compress(&START, block);
    std::array::from_fn(|lane| u64::from(outer[7][lane].swap_bytes()) << 32 | u64::from(outer[6][lane].swap_bytes()))
}

/// SHA-256's compression of one block, from the same state in all lanes.
#[inline(always)]
fn compress(start: &[u32; 8], mut w: [Lanes; 16]) -> [Lanes; 8] {
    let first = start.map(|word| [word; LANES]);
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = first;
    for (round, k) in K.iter().enumerate() {
        let at = round % 16;
        if round >= 16 {
            let (old, near) = (w[(at + 1) % 16], w[(at + 14) % 16]);
            let small0 = each(|lane| old[lane].rotate_right(7) ^ old[lane].rotate_right(18) ^ old[lane] >> 3);
            let small1 = each(|lane| near[lane].rotate_right(17) ^ near[lane].rotate_right(19) ^ near[lane] >> 10);
            w[at] = sum(sum(w[at], small0), sum(w[(at + 9) % 16], small1));
        }
        let big1 = each(|lane| e[lane].rotate_right(6) ^ e[lane].rotate_right(11) ^ e[lane].rotate_right(25));
        let choice = each(|lane| e[lane] & f[lane] ^ !e[lane] & g[lane]);
        let t1 = sum(sum(h, big1), sum(choice, sum(w[at], [*k; LANES])));
        let big0 = each(|lane| a[lane].rotate_right(2) ^ a[lane].rotate_right(13) ^ a[lane].rotate_right(22));
        let majority = each(|lane| a[lane] & b[lane] ^ c[lane] & (a[lane] ^ b[lane]));
        (h, g, f, e) = (g, f, e, sum(d, t1));
        (d, c, b, a) = (c, b, a, sum(t1, sum(big0, majority)));
    }
    let last = [a, b, c, d, e, f, g, h];
    std::array::from_fn(|word| sum(first[word], last[word]))
}

#[inline(always)]
fn each(word: impl Fn(usize) -> u32) -> Lanes {
    std::array::from_fn(word)
}

#[inline(always)]
fn sum(a: Lanes, b: Lanes) -> Lanes {
    each(|lane| a[lane].wrapping_add(b[lane]))
}

/// By all means that this CPU has, preferred or not.
#[cfg(test)]
pub fn every_way(header: &Header, first_nonce: u32) -> Vec<[u64; LANES]> {
    let mut ways = vec![tops_in_lanes(header, first_nonce)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the CPU has both, and the function asks for nothing more.
            ways.push(unsafe { tops_avx512(header, first_nonce) });
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2, and the function asks for nothing more.
            ways.push(unsafe { tops_avx2(header, first_nonce) });
        }
    }
    ways
}

/// The round constants of SHA-256 (FIPS 180-4, section 4.2.2).
#[rustfmt::skip] // a table
const K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];
