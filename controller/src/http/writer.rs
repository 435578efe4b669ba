//! Names, labels and values in, metrics in Prometheus' text format out.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;

/// Writes metrics one after the other.
#[derive(Debug)]
pub struct Writer<'a>(pub DescriptorEncoder<'a>);

impl Writer<'_> {
    /// A gauge; one that is not known has a description and no value.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: Option<V>,
    ) -> fmt::Result {
        self.gauges::<_, 0>(name, help, value.map(|value| ([], value)))
    }

    /// Gauges of one name, each with its labels.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gauges<'a, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = ([(&'static str, &'a str); N], V)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in lines {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// What does not change, in labels.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn one_info<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [(&'static str, &str); N],
    ) -> fmt::Result {
        self.gauges(name, help, [(labels, 1_u64)])
    }

    /// A counter.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters::<0>(name, help, [([], value)])
    }

    /// Counters of one name, each with its labels.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = ([(&'static str, &'a str); N], u64)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in lines {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<[(&str, &str); 0], u64, f64>(&value, None)?;
        }
        Ok(())
    }
}
