//! A switch's trunk port on the way to the router: GRE leaves it with a VLAN tag. (Tags are made by hand, for no kernel here
//! needs to have VLAN devices.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gre_tests::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_GRE, TPID_8021Q};
use gre_tests::lab::Wire;

use crate::net::{Net, mac_text};

/// How long it waits for a frame before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A switch between the centre and the router, which ends with this.
pub(crate) struct Tagger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Tagger {
    /// Puts a switch into the wire between `centre` and `wan0`: all frames pass, GRE to the router with this tag.
    pub(crate) fn start(net: &Net, tci: u16) -> Result<Self> {
        // The centre's end of the wire goes to the switch, and the centre gets another with the same name and addresses.
        let switch = net.lab.namespace("switch")?;
        net.centre.ip("link set dev wan down")?;
        net.centre
            .ip(&format!("link set dev wan name trunk netns {}", switch.path()))?;
        switch.ip("link set dev trunk up promisc on")?;
        net.lab.veth(
            net.centre
                .end("wan")
                .address("203.0.113.10/24")
                .address("2001:db8:113::10/64"),
            // A switch passes frames as they came: nobody could take apart what GRO had made of several.
            switch.end("port").napi(),
        )?;
        // For neighbours it is the same as before.
        net.centre
            .ip(&format!("link set dev wan address {}", mac_text(net.wan.0.mac)))?;
        switch.ip("link set dev port promisc on")?;
        let (trunk, port) = (Wire::open(&switch, "trunk")?, Wire::open(&switch, "port")?);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let run = move || {
            let mut tagged = 0;
            while !told.load(Ordering::Relaxed) {
                // What comes back is a few neighbour discoveries; replies take another way.
                while let Some(frame) = trunk.next(Duration::ZERO)? {
                    if !frame.outgoing {
                        port.send(&frame.bytes)?;
                    }
                }
                if let Some(mut frame) = port.next(LOOK)?.filter(|frame| !frame.outgoing) {
                    if is_gre(&frame.bytes) {
                        let [t0, t1] = TPID_8021Q.to_be_bytes();
                        let [c0, c1] = tci.to_be_bytes();
                        frame.bytes.splice(12..12, [t0, t1, c0, c1]);
                        tagged += 1;
                    }
                    trunk.send(&frame.bytes)?;
                }
            }
            Ok(tagged)
        };
        Ok(Self {
            stop,
            thread: Some(thread::Builder::new().spawn(run).context("start the switch")?),
        })
    }

    /// Ends it, and returns how many frames it gave a tag.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.end()
    }

    fn end(&mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(0),
            Some(ended) => ended.map_err(|_| anyhow!("the switch panicked"))?,
        }
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

fn is_gre(frame: &[u8]) -> bool {
    let protocol = |at: usize| frame.get(at) == Some(&PROTOCOL_GRE);
    let ethertype = frame.get(12..14);
    ethertype == Some(&ETHERTYPE_IPV4.to_be_bytes()) && protocol(23)
        || ethertype == Some(&ETHERTYPE_IPV6.to_be_bytes()) && protocol(20)
}
