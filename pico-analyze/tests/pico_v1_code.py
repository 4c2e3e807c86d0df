"""The code that lies beside a checkpoint of Pico 1.0 (`pico_decoder.py`), short: its modules and names, as transformers
loads it with trust_remote_code."""

CODE = '''
import torch
from torch import nn
import torch.nn.functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class RMSNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.eps, self.weight = config.norm_eps, nn.Parameter(torch.ones(config.d_model))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def turned(x, theta):
    """Pairs of neighbours, as complex numbers."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    rates = theta ** -(torch.arange(0, x.shape[-1], 2)[: x.shape[-1] // 2].float() / x.shape[-1])
    angles = torch.outer(torch.arange(x.shape[1]).float(), rates)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[None, :, None]).flatten(3)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.kv = config.attention_n_heads, config.attention_n_kv_heads
        self.width, self.theta = config.d_model // self.heads, config.position_emb_theta
        self.q_proj = nn.Linear(config.d_model, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.d_model, self.kv * self.width, bias=False)
        self.v_proj = nn.Linear(config.d_model, self.kv * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, config.d_model, bias=False)

    def forward(self, x):
        q, k, v = (one(x).view(*x.shape[:2], -1, self.width) for one in (self.q_proj, self.k_proj, self.v_proj))
        q, k = turned(q, self.theta), turned(k, self.theta)
        k, v = (one.repeat_interleave(self.heads // self.kv, 2).transpose(1, 2) for one in (k, v))
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), None


class SwiGLU(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w_0 = nn.Linear(config.d_model, config.activation_hidden_dim, bias=False)
        self.w_1 = nn.Linear(config.d_model, config.activation_hidden_dim, bias=False)
        self.w_2 = nn.Linear(config.activation_hidden_dim, config.d_model, bias=False)

    def forward(self, x):
        return self.w_2(F.silu(self.w_0(x)) * self.w_1(x))


class PicoDecoderBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention, self.swiglu = Attention(config), SwiGLU(config)
        self.attention_norm, self.swiglu_norm = RMSNorm(config), RMSNorm(config)

    def forward(self, x):
        mixed, cached = self.attention(self.attention_norm(x))
        h = x + mixed
        return h + self.swiglu(self.swiglu_norm(h)), cached


class PicoDecoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding_proj = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList([PicoDecoderBlock(config) for _ in range(config.n_layers)])
        self.output_norm = RMSNorm(config)
        self.de_embedding_proj = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, input_ids, past_key_values=None, use_cache=False):
        h = self.embedding_proj(input_ids)
        for layer in self.layers:
            h, _ = layer(h)
        return self.de_embedding_proj(self.output_norm(h)).float(), None


class PicoDecoderHFConfig(PretrainedConfig):
    model_type = "pico_decoder"

    def __init__(self, d_model=8, n_layers=2, vocab_size=50, max_seq_len=8, attention_n_heads=4,
                 attention_n_kv_heads=2, activation_hidden_dim=32, norm_eps=1e-6, position_emb_theta=10000.0, **more):
        super().__init__(**more)
        self.d_model, self.n_layers, self.vocab_size, self.max_seq_len = d_model, n_layers, vocab_size, max_seq_len
        self.attention_n_heads, self.attention_n_kv_heads = attention_n_heads, attention_n_kv_heads
        self.activation_hidden_dim, self.norm_eps = activation_hidden_dim, norm_eps
        self.position_emb_theta = position_emb_theta


class PicoDecoderHF(PreTrainedModel):
    config_class = PicoDecoderHFConfig

    def __init__(self, config):
        super().__init__(config)
        self.pico_decoder = PicoDecoder(config)

    def forward(self, input_ids, past_key_values=None, use_cache=False, **more):
        logits, _ = self.pico_decoder(input_ids, past_key_values, use_cache)
        return CausalLMOutput(logits=logits)
'''
