"""Four logical CPU devices for the strategies' tests, before TensorFlow opens its context."""

from tf_vitcnn.devices.start import start_tensorflow

start_tensorflow()

import tensorflow as tf  # noqa: E402  (after its messages are silenced)

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
