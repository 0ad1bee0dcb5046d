//! A network of its own for servers.

use std::net::IpAddr;

use anyhow::Context;
use e2e::Namespace;

use crate::machine::run;

/// Network namespaces of servers on one bridge, which this machine reaches.
#[derive(Debug)]
pub(crate) struct Network {
    bridge: String,
    namespaces: Vec<Namespace>,
}

impl Network {
    /// # Errors
    /// When this machine cannot make one.
    pub(crate) async fn make(nodes: usize) -> anyhow::Result<Self> {
        // Two runs at once must not meet.
        let [high, low] = rand::random::<[u8; 2]>();
        let mut network = Self {
            bridge: format!("penstock{high:02x}{low:02x}"),
            namespaces: Vec::new(),
        };
        ip(&format!("link add {} type bridge", network.bridge)).await?;
        ip(&format!("addr add 10.{high}.{low}.1/24 dev {}", network.bridge)).await?;
        ip(&format!("link set {} up", network.bridge)).await?;
        for index in 0..nodes {
            let last = u8::try_from(index + 2).context("too many servers for one network")?;
            let namespace = Namespace {
                name: format!("{}-{index}", network.bridge),
                address: IpAddr::from([10, high, low, last]),
            };
            network.add(index, namespace).await?;
        }
        Ok(network)
    }

    async fn add(&mut self, index: usize, namespace: Namespace) -> anyhow::Result<()> {
        let (name, address) = (namespace.name.clone(), namespace.address);
        let cable = self.cable(index);
        ip(&format!("netns add {name}")).await?;
        self.namespaces.push(namespace);
        ip(&format!("link add {cable} type veth peer name eth0 netns {name}")).await?;
        ip(&format!("link set {cable} master {} up", self.bridge)).await?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0")).await?;
        ip(&format!("-n {name} link set eth0 up")).await?;
        ip(&format!("-n {name} link set lo up")).await
    }

    /// The name of this machine's end of a server's cable; the kernel allows 15 characters.
    fn cable(&self, index: usize) -> String {
        format!("{}.{index}", self.bridge)
    }

    /// Where the servers are.
    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.clone()
    }

    /// Sets a server's cable `up` or `down`.
    pub(crate) async fn set(&self, index: usize, state: &str) -> anyhow::Result<()> {
        ip(&format!("link set {} {state}", self.cable(index))).await
    }
}

async fn ip(command: &str) -> anyhow::Result<()> {
    run("ip", command.split(' ')).await?;
    Ok(())
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace's end of a cable goes with it, and with that the other end.
        let namespaces = self
            .namespaces
            .iter()
            .map(|namespace| vec!["netns", "del", &namespace.name]);
        for command in namespaces.chain([vec!["link", "del", &self.bridge]]) {
            let _ = std::process::Command::new("ip").args(command).status();
        }
    }
}
