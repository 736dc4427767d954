import numpy as np
import pytest
from scipy.signal import stft

from servekit.kernels import audio

RATE = 16_000
TIME = np.arange(RATE // 2) / RATE
# Two tones that glide, and noise.
SOUND = (
    0.5 * np.sin(2 * np.pi * (300 + 900 * TIME) * TIME)
    + 0.1 * np.sin(2 * np.pi * 3_000 * TIME)
    + 0.01 * np.random.default_rng(0).standard_normal(len(TIME))
).astype(np.float32)[None]


def naive_mel_power(spectrum, bands):
    """Of a spectrum (bins, frames): each bin's power, shared between the two bands it lies between."""
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(512, 1 / RATE) / 700)
    hertz = np.fft.rfftfreq(512, 1 / RATE)
    edges = 700 * (10 ** (np.linspace(0, mel[-1], bands + 2) / 2595) - 1)
    power = np.zeros((bands, spectrum.shape[1]))
    for band in range(bands):
        low, peak, high = edges[band : band + 3]
        for place, frequency in enumerate(hertz):
            if low < frequency < high:
                weight = (frequency - low) / (peak - low) if frequency <= peak else (high - frequency) / (high - peak)
                power[band] += weight * np.abs(spectrum[place]) ** 2
    return power


def test_frames_are_windows_of_the_sound():
    framed = audio.frames.run_compiled(sound=SOUND).outputs["framed"]
    expected = np.lib.stride_tricks.sliding_window_view(SOUND[0], 400)[::160]
    assert (framed[0] == expected).all()


@pytest.mark.parametrize(("samples", "count"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)])
def test_a_last_frame_that_is_not_full_is_left_out(samples, count):
    assert audio.frames.run_compiled(sound=SOUND[:, :samples]).outputs["framed"].shape == (1, count, 400)


def test_log_mel_is_scipy_s_spectrum_in_bands():
    ours = audio.log_mel.run_compiled(sound=SOUND).outputs["mel"][0]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    _, _, spectrum = stft(
        SOUND[0].astype(np.float64),
        window=hann,
        nperseg=400,
        noverlap=240,
        nfft=512,
        boundary=None,
        padded=False,
        scaling="spectrum",
    )
    power = naive_mel_power(spectrum * hann.sum(), 80)
    assert ours.shape == power.shape
    np.testing.assert_allclose(ours, np.log(np.maximum(power, 1e-10)), atol=2e-3)


def test_silence_is_the_least_power():
    ours = audio.log_mel.run_compiled(sound=np.zeros((1, 800), np.float32)).outputs["mel"]
    assert (ours == np.float32(np.log(1e-10))).all()


def test_a_sound_shorter_than_a_window_is_refused():
    assert audio.log_mel.run_compiled(sound=SOUND[:, :399]).faults.tolist() == [1]
