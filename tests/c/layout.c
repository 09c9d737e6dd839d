/* Sizes and offsets that programs were compiled with, on 64-bit machines. A change here is a change of the interface. */
#include <ossicle.h>

#define HAS_SIZE(type, size) typedef char type##_size[sizeof(type) == (size) ? 1 : -1]
#define AT(type, field, offset) typedef char type##_##field[offsetof(type, field) == (offset) ? 1 : -1]

HAS_SIZE(ossicle_text, 16);
HAS_SIZE(ossicle_bytes, 16);
HAS_SIZE(ossicle_layout, 16);
HAS_SIZE(ossicle_error, 280);
AT(ossicle_error, offset, 16);
AT(ossicle_error, text, 24);
HAS_SIZE(ossicle_host, 40);
HAS_SIZE(ossicle_source, 40);
HAS_SIZE(ossicle_model_config, 32);
HAS_SIZE(ossicle_model_numbers, 48);
HAS_SIZE(ossicle_tokenizer_config, 48);
HAS_SIZE(ossicle_session_config, 40);
HAS_SIZE(ossicle_logit_bias, 8);
HAS_SIZE(ossicle_log_probability, 8);
HAS_SIZE(ossicle_sampler_config, 48);
HAS_SIZE(ossicle_system, 64);
HAS_SIZE(ossicle_tool, 56);
HAS_SIZE(ossicle_response_format, 56);
HAS_SIZE(ossicle_developer, 56);
HAS_SIZE(ossicle_message, 128);
AT(ossicle_message, own_tokens, 112);
HAS_SIZE(ossicle_render_config, 16);
HAS_SIZE(ossicle_generation_config, 16);
HAS_SIZE(ossicle_turn_config, 72);
HAS_SIZE(ossicle_event, 176);
AT(ossicle_event, text, 16);
AT(ossicle_event, reason, 132);
AT(ossicle_event, top, 160);
HAS_SIZE(ossicle_chat_config, 32);

int main(void) {
    return 0;
}
