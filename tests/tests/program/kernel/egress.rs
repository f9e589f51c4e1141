//! The program for ways out.

use anyhow::{Context, Result};
use aya::maps::{PerCpuHashMap, PerCpuValues};
use aya::programs::{TestRun, TestRunOptions};
use aya::util::nr_cpus;
use gre_common::maps::{EGRESS_CLAMPED, MAX_EGRESS};
use gre_user::clamps::Clamps;
use gre_user::config::ClampMss;
use gre_user::host::Interface;
use gre_user::tables::Tables;

use super::{Kernel, map};

impl Kernel {
    /// Loads the program for ways out, to lower the MSS of what leaves by the loopback interface, which is where test runs leave.
    pub(crate) fn load_egress(&mut self, mss: u16) -> Result<()> {
        let loopback = Interface::by_name("lo")?.context("there is a loopback interface")?;
        let tables = Tables::default();
        let clamps = Clamps::of(&tables, [(&loopback, ClampMss::Bytes(mss))].into_iter());
        self.datapath.load_egress(&clamps)
    }

    /// Fills the counts of ways out up with those of interfaces that are gone.
    pub(crate) fn fill_egress_counts(&mut self) -> Result<()> {
        let mut clamped: PerCpuHashMap<_, u32, u64> =
            PerCpuHashMap::try_from(map(self.datapath.ebpf(), EGRESS_CLAMPED)?)?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        for index in 0..MAX_EGRESS {
            clamped.insert(100_000 + index, PerCpuValues::try_from(vec![0; cpus])?, 0)?;
        }
        Ok(())
    }

    /// Runs the program for ways out on a frame: what it returned, the frame after it, and how many SYNs it has counted so far.
    pub(crate) fn run_egress(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>, u64)> {
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self
            .datapath
            .egress()?
            .test_run(options)
            .context("test-run the way out")?;
        out.truncate(result.data_size_out as usize);
        let clamped: PerCpuHashMap<_, u32, u64> = PerCpuHashMap::try_from(map(self.datapath.ebpf(), EGRESS_CLAMPED)?)?;
        let mut count = 0;
        for entry in clamped.iter() {
            count += entry?.1.iter().sum::<u64>();
        }
        Ok((result.return_value, out, count))
    }
}
