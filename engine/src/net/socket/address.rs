//! Socket addresses as the kernel writes and reads them.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

pub(super) fn write_name(
    name: &mut MaybeUninit<libc::sockaddr_storage>,
    address: SocketAddr,
) -> u32 {
    match address {
        SocketAddr::V4(v4) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*v4.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large and aligned enough for any socket address.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(value) };
            mem::size_of::<libc::sockaddr_in>() as u32
        }
        SocketAddr::V6(v6) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in6>().write(value) };
            mem::size_of::<libc::sockaddr_in6>() as u32
        }
    }
}

pub(super) fn read_name(name: &MaybeUninit<libc::sockaddr_storage>) -> Option<SocketAddr> {
    let name = name.as_ptr();
    // SAFETY: the storage was zeroed at birth and written by the kernel; the family field is
    // common to all socket addresses.
    let family = i32::from(unsafe { (*name).ss_family });
    match family {
        libc::AF_INET => {
            // SAFETY: the family says which layout the storage has.
            let v4 = unsafe { *name.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { *name.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
