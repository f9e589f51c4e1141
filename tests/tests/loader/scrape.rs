//! Asking a `gre-decap run` over HTTP, and reading its metrics by a parser that is not its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, anyhow, ensure};
use openmetrics_parser::openmetrics::parse_openmetrics;
use openmetrics_parser::{MetricNumber, OpenMetricsType, OpenMetricsValue, Sample};

use crate::site::Site;

/// Where `run` listens unless told otherwise.
pub(crate) const DEFAULT: &str = "127.0.0.1:9470";

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// What a scrape says.
pub(crate) struct Scrape(Vec<Family>);

/// Metrics of one name.
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: OpenMetricsType,
    pub(crate) help: String,
    /// Labels, each as `name=value`, in order, and the value.
    pub(crate) samples: Vec<(Vec<String>, OpenMetricsValue)>,
}

/// Asks by a whole request line, `GET /metrics`.
pub(crate) fn ask(site: &Site, listen: &str, request: &str) -> Result<Answer> {
    let text = site.origin.run(|| {
        let request = format!("{request} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n");
        match listen.strip_prefix("unix:") {
            Some(path) => converse(UnixStream::connect(path).context("connect")?, &request),
            None => {
                let address: SocketAddr = listen.parse()?;
                converse(TcpStream::connect(address).context("connect")?, &request)
            }
        }
    })?;
    let (head, body) = text.split_once("\r\n\r\n").context("an HTTP answer")?;
    let (first, headers) = head.split_once("\r\n").context("a status line and headers")?;
    let status = first.split(' ').nth(1).context("a status")?.parse()?;
    Ok(Answer {
        status,
        headers: headers.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

fn converse(mut stream: impl Read + Write, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Scrape {
    /// Scrapes.
    pub(crate) fn of(site: &Site, listen: &str) -> Result<Self> {
        let answer = ask(site, listen, "GET /metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(
            answer
                .headers
                .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
            "{}",
            answer.headers
        );
        Self::parse(&answer.body)
    }

    /// Reads a scrape's text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let exposition = parse_openmetrics(text).map_err(|error| anyhow!("{error}: {text}"))?;
        let families = exposition.families.into_values().map(|family| {
            let (name, kind, help) = (family.family_name.clone(), family.family_type, family.help.clone());
            let sample = |sample: Sample<OpenMetricsValue>| {
                let labels = sample.get_labelset().map_err(|error| anyhow!("{error}"))?;
                let mut labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                labels.sort();
                anyhow::Ok((labels, sample.value))
            };
            anyhow::Ok(Family {
                name,
                kind,
                help,
                samples: family.into_iter_samples().map(sample).collect::<Result<_>>()?,
            })
        });
        families.collect::<Result<_>>().map(Self)
    }

    pub(crate) fn families(&self) -> &[Family] {
        &self.0
    }

    /// The value of a counter, gauge or info with these labels, separated by blanks and in order; none if there is no such.
    pub(crate) fn value(&self, family: &str, labels: &str) -> Option<f64> {
        let family = self.0.iter().find(|other| other.name == family)?;
        let labels: Vec<_> = labels.split(' ').filter(|label| !label.is_empty()).collect();
        let (_, value) = family.samples.iter().find(|(other, _)| *other == labels)?;
        match value {
            OpenMetricsValue::Counter(counter) => Some(number(&counter.value)),
            OpenMetricsValue::Gauge(gauge) => Some(number(gauge)),
            OpenMetricsValue::Info => Some(1.0),
            _ => None,
        }
    }
}

impl Scrape {
    /// The buckets of a histogram with these labels, each with its upper bound, and its sum.
    pub(crate) fn histogram(&self, family: &str, labels: &str) -> Option<(Vec<(f64, f64)>, f64)> {
        let family = self.0.iter().find(|other| other.name == family)?;
        let (_, value) = family.samples.iter().find(|(other, _)| other.join(" ") == labels)?;
        let OpenMetricsValue::Histogram(histogram) = value else {
            return None;
        };
        let buckets = histogram.buckets.iter();
        let buckets = buckets.map(|bucket| (bucket.upper_bound, number(&bucket.count)));
        Some((buckets.collect(), number(histogram.sum.as_ref()?)))
    }
}

fn number(number: &MetricNumber) -> f64 {
    number.as_f64()
}
