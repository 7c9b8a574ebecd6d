"""Models of transformers over time: they hear, speak, forecast and decide."""

from __future__ import annotations

import torch

from benchmarks.zoo.recipe import WORDS, Inputs, Recipe


def wave() -> Inputs:
    """Two sounds of 400 samples as the only positional argument."""
    return (torch.randn(2, 400),), {}


def wave_in_a_channel() -> Inputs:
    """The same with a channel: (2, 1, 400)."""
    return (torch.randn(2, 1, 400),), {}


def classified_wave() -> Inputs:
    """Sounds with a class each."""
    return (), {"input_values": torch.randn(2, 400), "labels": torch.tensor([0, 1])}


def transcribed_wave() -> Inputs:
    """Sounds, which samples are sound, and the letters in them."""
    mask = torch.ones(2, 400, dtype=torch.long)
    mask[1, 300:] = 0
    letters = torch.tensor([[3, 4], [5, 6]])
    return (), {"input_values": torch.randn(2, 400), "attention_mask": mask, "labels": letters}


def wave_and_text() -> Inputs:
    """Sounds, and the text so far."""
    return (), {"input_values": torch.randn(2, 1600), "decoder_input_ids": torch.randint(3, WORDS, (2, 5))}


def frames() -> Inputs:
    """Spectra of 32 moments and 16 pitches: (2, 32, 16)."""
    return (torch.randn(2, 32, 16),), {}


def frames_and_text() -> Inputs:
    """Spectra, and the text so far."""
    return (), {"input_features": torch.randn(2, 32, 16), "decoder_input_ids": torch.randint(3, WORDS, (2, 5))}


def pitches() -> Inputs:
    """Spectra with their pitches first: (2, 16, 32)."""
    return (torch.randn(2, 16, 32),), {}


def pitches_and_labels() -> Inputs:
    """Spectra with their pitches first, and the text to say."""
    return (), {"input_features": torch.randn(2, 16, 32), "labels": torch.randint(3, WORDS, (2, 5))}


def spectra_and_noise() -> Inputs:
    """Spectra of 10 moments, and the noise that a vocoder makes its sound from."""
    return (), {"input_features": torch.randn(2, 10, 16), "noise_sequence": torch.randn(2, 10, 8)}


def series() -> Inputs:
    """Two records of three quantities at 32 times: (2, 32, 3)."""
    return (torch.randn(2, 32, 3),), {}


def play() -> Inputs:
    """Five moves of two games."""
    moves = {"states": torch.randn(2, 5, 4), "actions": torch.randn(2, 5, 2), "rewards": torch.randn(2, 5, 1)}
    when = {"timesteps": torch.arange(5).expand(2, 5), "attention_mask": torch.ones(2, 5)}
    return (), {**moves, **when, "returns_to_go": torch.randn(2, 5, 1)}


ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
# No random spans are hidden in training: a span is longer than these sounds.
WAVES = {
    **ENCODER,
    "vocab_size": WORDS,
    "conv_dim": [8, 8, 16],
    "conv_kernel": [8, 4, 4],
    "conv_stride": [4, 2, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
    "mask_time_prob": 0.0,
}
# LayerDrop is on, as it is by default; fine-tuning for speech recognition switches it off.
FINE_TUNED = {**WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "layerdrop": 0.0}
SPEAKERS = {**WAVES, "tdnn_dim": [16, 16], "tdnn_kernel": [3, 3], "tdnn_dilation": [1, 2], "xvector_output_dim": 8}
FRAMED = {**ENCODER, "feature_projection_input_dim": 16, "mask_time_prob": 0.0, "conv_depthwise_kernel_size": 3}
BOTH = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
WHISPER = {
    **BOTH,
    "vocab_size": WORDS,
    "d_model": 32,
    "num_mel_bins": 16,
    "max_source_positions": 16,
    "max_target_positions": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
SPEECH_TO_TEXT = {
    **BOTH,
    "vocab_size": WORDS,
    "d_model": 32,
    "input_feat_per_channel": 16,
    "conv_channels": 16,
    "max_source_positions": 64,
    "max_target_positions": 64,
    "use_cache": False,
}
MOONSHINE = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 32,
    "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SPECTROGRAM = {
    **ENCODER,
    "patch_size": 8,
    "frequency_stride": 8,
    "time_stride": 8,
    "max_length": 32,
    "num_mel_bins": 16,
}
ENCODEC = {
    "num_filters": 4,
    "num_residual_layers": 1,
    "upsampling_ratios": [4, 2],
    "hidden_size": 16,
    "codebook_size": 16,
    "codebook_dim": 16,
    "num_lstm_layers": 1,
    "target_bandwidths": [24.0],
}
DAC = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 4],
    "decoder_hidden_size": 16,
    "n_codebooks": 2,
    "codebook_size": 16,
    "codebook_dim": 4,
}
UNIVNET = {
    "model_in_channels": 8,
    "model_hidden_channels": 8,
    "num_mel_bins": 16,
    "resblock_kernel_sizes": [3],
    "resblock_stride_sizes": [2],
    "resblock_dilation_sizes": [[1, 3]],
    "kernel_predictor_hidden_channels": 8,
}
SERIES = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8}
SERIES_PATCHES = {
    **SERIES,
    "num_hidden_layers": 2,
    "d_model": 32,
    "num_attention_heads": 4,
    "ffn_dim": 32,
    "num_targets": 2,
    "use_cls_token": True,
}
SERIES_MIXER = {**SERIES, "num_layers": 2, "d_model": 16, "prediction_length": 4}
PLAYER = {
    "state_dim": 4,
    "act_dim": 2,
    "hidden_size": 32,
    "max_ep_len": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
}

RECIPES = (
    Recipe("wav2vec2", "Wav2Vec2Model", wave, WAVES),
    Recipe("wav2vec2-letters", "Wav2Vec2ForCTC", transcribed_wave, FINE_TUNED),
    Recipe("wav2vec2-conformer", "Wav2Vec2ConformerModel", wave, {**WAVES, "position_embeddings_type": "rotary"}),
    Recipe("wav2vec2-bert", "Wav2Vec2BertModel", frames, FRAMED),
    Recipe("hubert", "HubertForSequenceClassification", classified_wave, WAVES),
    Recipe("wavlm", "WavLMForSequenceClassification", classified_wave, {**WAVES, "num_buckets": 16}),
    Recipe("unispeech-sat", "UniSpeechSatForXVector", wave, SPEAKERS),
    Recipe("sew", "SEWModel", wave, {**WAVES, "squeeze_factor": 2}),
    Recipe("sew-d", "SEWDModel", wave, {**WAVES, "squeeze_factor": 2}),
    Recipe("data2vec-audio", "Data2VecAudioModel", wave, WAVES),
    Recipe("whisper", "WhisperForConditionalGeneration", pitches_and_labels, WHISPER),
    Recipe("whisper-classification", "WhisperForAudioClassification", pitches, WHISPER),
    Recipe("speech-to-text", "Speech2TextForConditionalGeneration", frames_and_text, SPEECH_TO_TEXT),
    Recipe("moonshine", "MoonshineForConditionalGeneration", wave_and_text, MOONSHINE),
    Recipe("speecht5", "SpeechT5ForSpeechToText", wave_and_text, {**WAVES, **BOTH, "use_cache": False}),
    Recipe("audio-spectrogram", "ASTForAudioClassification", frames, SPECTROGRAM),
    Recipe("encodec", "EncodecModel", wave_in_a_channel, ENCODEC),
    Recipe("dac", "DacModel", wave_in_a_channel, DAC),
    Recipe("univnet", "UnivNetModel", spectra_and_noise, UNIVNET),
    Recipe("patchtst", "PatchTSTForClassification", series, SERIES_PATCHES),
    Recipe("patchtsmixer", "PatchTSMixerForPrediction", series, SERIES_MIXER),
    Recipe("decision-transformer", "DecisionTransformerModel", play, PLAYER),
)
