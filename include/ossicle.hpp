// Ossicle for C++17: header only, over ossicle.h. No exceptions, no allocation of its own but that of `memory`.
//
// Each class owns one object and the memory that it lies in; it can be moved and not copied. What can fail returns a
// `result<T>`, which is either a value or an error that says what went wrong. Views (`text`, `bytes`, `span`) do not own.
//
//     ossicle::chat chat = ossicle::chat::open("model.gguf").value();
//     for (const ossicle::event &event : chat.ask("Why is the sky blue?").value())
//         if (event.is_answer())
//             std::cout << event.text();
#ifndef OSSICLE_HPP
#define OSSICLE_HPP

#include "ossicle.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace ossicle {

/// What went wrong.
struct error : ossicle_error {
    error() noexcept : ossicle_error{} { struct_size = sizeof(ossicle_error); }
    explicit error(std::int32_t code) noexcept : error() { status = code; }
    /// For the log: what, where, and what was expected.
    std::string_view what() const noexcept {
        return text_size > 0 ? std::string_view(text, text_size) : std::string_view(ossicle_status_text(status));
    }
};

/// A value, or why there is none.
template <class T> class result {
  public:
    result(T value) : value_(std::move(value)) {}
    result(const error &failure) : error_(failure) {}
    explicit operator bool() const noexcept { return value_.has_value(); }
    /// The value; ends the program with the error's text if there is none.
    T &value() & {
        demand();
        return *value_;
    }
    T value() && {
        demand();
        return std::move(*value_);
    }
    const ossicle::error &failure() const noexcept { return error_; }

  private:
    void demand() const {
        if (!value_) {
            std::string_view what = error_.what();
            std::fprintf(stderr, "ossicle: %.*s\n", static_cast<int>(what.size()), what.data());
            std::abort();
        }
    }
    std::optional<T> value_;
    ossicle::error error_;
};

/// A view of elements that lie elsewhere.
template <class T> class span {
  public:
    constexpr span() noexcept = default;
    constexpr span(T *start, std::size_t size) noexcept : start_(start), size_(size) {}
    constexpr T *data() const noexcept { return start_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return start_; }
    constexpr T *end() const noexcept { return start_ + size_; }
    constexpr T &operator[](std::size_t index) const { return start_[index]; }

  private:
    T *start_ = nullptr;
    std::size_t size_ = 0;
};

inline ossicle_text text_of(std::string_view view) noexcept { return {view.data(), view.size()}; }
inline std::string_view view_of(ossicle_text text) noexcept {
    return text.start ? std::string_view(text.start, text.size) : std::string_view();
}

/// A configuration with all defaults: `auto config = ossicle::defaults<ossicle_turn_config>();`.
template <class Config> Config defaults() noexcept {
    Config config{};
    config.struct_size = sizeof(Config);
    return config;
}

/// Something that happened in a turn. Valid until the next.
class event {
  public:
    explicit event(const ossicle_event *raw) noexcept : raw_(raw) {}
    const ossicle_event &raw() const noexcept { return *raw_; }
    std::uint32_t kind() const noexcept { return raw_->kind; }
    std::uint32_t message() const noexcept { return raw_->message; }
    std::string_view text() const noexcept { return view_of(raw_->text); }
    std::string_view recipient() const noexcept { return view_of(raw_->recipient); }
    bool is_delta() const noexcept { return kind() == OSSICLE_EVENT_DELTA; }
    /// Text that a user may see.
    bool is_answer() const noexcept { return is_delta() && message() == OSSICLE_MESSAGE_ANSWER; }
    bool is_reasoning() const noexcept { return is_delta() && message() == OSSICLE_MESSAGE_REASONING; }
    bool is_stop() const noexcept { return kind() == OSSICLE_EVENT_STOP; }
    /// What a tool answered, within the answer of a chat.
    bool is_tool_result() const noexcept { return kind() == OSSICLE_EVENT_TOOL_RESULT; }
    span<const ossicle_log_probability> top() const noexcept { return {raw_->top, raw_->top_count}; }

  private:
    const ossicle_event *raw_;
};

/// A range over events, from any function that gives the next one. An error ends it, and is in the `failure` of the range.
template <class Source> class event_range {
  public:
    explicit event_range(Source source) noexcept : source_(source) {}

    class iterator {
      public:
        explicit iterator(event_range *range) noexcept : range_(range) {}
        event operator*() const noexcept { return event(range_->event_); }
        iterator &operator++() noexcept {
            if (!range_->advance())
                range_ = nullptr;
            return *this;
        }
        bool operator!=(const iterator &other) const noexcept { return range_ != other.range_; }

      private:
        event_range *range_;
    };

    iterator begin() noexcept { return iterator(advance() ? this : nullptr); }
    iterator end() noexcept { return iterator(nullptr); }
    /// The error that ended the range, if one did: its status is negative then.
    const error &failure() const noexcept { return error_; }

  private:
    bool advance() noexcept {
        std::int32_t status = source_(&event_, &error_);
        if (status < 0)
            error_.status = status;
        return status == OSSICLE_MORE;
    }
    Source source_;
    const ossicle_event *event_ = nullptr;
    ossicle::error error_;
};

/// Memory for one object, from the system's heap. Those who have memory of their own use ossicle.h.
class memory {
  public:
    memory() noexcept = default;
    explicit memory(ossicle_layout layout) noexcept
        : block_(static_cast<char *>(std::malloc(layout.size + layout.align))), size_(layout.size) {
        void *start = block_.get();
        std::size_t space = layout.size + layout.align;
        start_ = start ? std::align(layout.align, layout.size, start, space) : nullptr;
    }
    void *start() const noexcept { return start_; }
    std::size_t size() const noexcept { return size_; }

  private:
    struct release {
        void operator()(char *block) const noexcept { std::free(block); }
    };
    std::unique_ptr<char, release> block_;
    void *start_ = nullptr;
    std::size_t size_ = 0;
};

/// An object and its memory.
template <class Raw> class owned {
  public:
    Raw *raw() const noexcept { return raw_; }

  protected:
    template <class Measure, class Make, class Self> static result<Self> make(Measure measure, Make make, Self self) {
        ossicle::error failure;
        ossicle_layout layout{};
        std::int32_t status = measure(&layout, &failure);
        if (status >= 0) {
            self.memory_ = memory(layout);
            if (!self.memory_.start())
                return error(OSSICLE_ERROR_MEMORY);
            status = make(self.memory_.start(), self.memory_.size(), &self.raw_, &failure);
        }
        if (status < 0) {
            failure.status = status;
            return failure;
        }
        return result<Self>(std::move(self));
    }

  private:
    memory memory_;
    Raw *raw_ = nullptr;
};

/// The weights of a model. The bytes of its files have to outlive it.
class model : public owned<ossicle_model> {
  public:
    static result<model> from_bytes(span<const ossicle_bytes> files, ossicle_bytes config_json = {}) {
        auto config = defaults<ossicle_model_config>();
        config.file_count = static_cast<std::uint32_t>(files.size());
        config.files = files.data();
        config.config_json = config_json;
        return make([&](auto *layout, auto *error) { return ossicle_model_layout(&config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_model_new(region, size, &config, out, error);
                    },
                    model());
    }
    const ossicle_model_numbers &numbers() const noexcept {
        const ossicle_model_numbers *numbers = nullptr;
        ossicle_model_numbers_of(raw(), &numbers);
        return *numbers;
    }
};

/// Text to tokens and back.
class tokenizer : public owned<ossicle_tokenizer> {
  public:
    static result<tokenizer> from(const ossicle_tokenizer_config &config) {
        return make([&](auto *layout, auto *error) { return ossicle_tokenizer_layout(&config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_tokenizer_new(region, size, &config, out, error);
                    },
                    tokenizer());
    }
    static result<tokenizer> of(const model &model) {
        auto config = defaults<ossicle_tokenizer_config>();
        config.model = model.raw();
        return from(config);
    }
    /// How many tokens the text has; those that fit are in `tokens`.
    result<std::size_t> encode(std::string_view text, span<std::uint32_t> tokens) const noexcept {
        std::size_t count = 0;
        const std::int32_t status = ossicle_tokenizer_encode(raw(), text_of(text), OSSICLE_SPECIALS_NONE, tokens.data(),
                                                             tokens.size(), &count);
        return status < 0 && status != OSSICLE_ERROR_BUFFER ? result<std::size_t>(error(status)) : count;
    }
};

/// What fine-tuning changed in a model. The model and the bytes of the adapter have to outlive it, and it has to outlive the sessions and
/// conversations that have it.
class adapter : public owned<ossicle_adapter> {
  public:
    static result<adapter> from_bytes(const model &model, ossicle_bytes file, ossicle_bytes config_json = {}) {
        auto config = defaults<ossicle_adapter_config>();
        config.file = file;
        config.config_json = config_json;
        return make([&](auto *layout, auto *error) { return ossicle_adapter_layout(model.raw(), &config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_adapter_new(model.raw(), region, size, &config, out, error);
                    },
                    adapter());
    }
    /// For `adapt`, of sessions and conversations. A scale of 0 stands for 1.
    ossicle_adapted scaled(float scale = 1) const noexcept {
        auto adapted = defaults<ossicle_adapted>();
        adapted.scale = scale;
        adapted.adapter = raw();
        return adapted;
    }
};

/// One timeline of tokens through a model, which has to outlive it.
class session : public owned<ossicle_session> {
  public:
    static result<session> on(const model &model, const ossicle_session_config *config = nullptr) {
        return make([&](auto *layout, auto *error) { return ossicle_session_layout(model.raw(), config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_session_new(model.raw(), region, size, config, out, error);
                    },
                    session());
    }
    error adapt(span<const ossicle_adapted> adapters) noexcept {
        error failure;
        failure.status = ossicle_session_adapt(raw(), adapters.data(), adapters.size(), &failure);
        return failure;
    }
    span<const float> logits() const noexcept {
        const float *start = nullptr;
        std::size_t count = 0;
        ossicle_session_logits(raw(), &start, &count);
        return {start, count};
    }
};

/// A conversation. It takes over a session; the tokenizer and the session's model have to outlive it.
class generation : public owned<ossicle_generation> {
  public:
    static result<generation> on(session session, const tokenizer &tokenizer,
                                 const ossicle_generation_config *config = nullptr) {
        ossicle_session *raw = session.raw();
        return make(
            [&](auto *layout, auto *error) {
                return ossicle_generation_layout(raw, tokenizer.raw(), config, layout, error);
            },
            [&](void *region, std::size_t size, auto **out, auto *error) {
                return ossicle_generation_new(raw, tokenizer.raw(), region, size, config, out, error);
            },
            generation(std::move(session)));
    }
    error adapt(span<const ossicle_adapted> adapters) noexcept {
        error failure;
        failure.status = ossicle_generation_adapt(raw(), adapters.data(), adapters.size(), &failure);
        return failure;
    }
    error append(span<const ossicle_message> messages) noexcept {
        error failure;
        failure.status = ossicle_generation_append(raw(), messages.data(), messages.size(), &failure);
        return failure;
    }
    span<const std::uint32_t> tokens() const noexcept {
        const std::uint32_t *start = nullptr;
        std::size_t count = 0;
        ossicle_generation_tokens(raw(), &start, &count);
        return {start, count};
    }

  private:
    friend class owned<ossicle_generation>;
    explicit generation(session session) noexcept : session_(std::move(session)) {}
    session session_;
};

/// What schemas need to know of a vocabulary. The tokenizer has to outlive it.
class token_index : public owned<ossicle_token_index> {
  public:
    static result<token_index> of(const ossicle_tokenizer *tokenizer) {
        return make([&](auto *layout, auto *error) { return ossicle_token_index_layout(tokenizer, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_token_index_new(tokenizer, region, size, out, error);
                    },
                    token_index());
    }
    static result<token_index> of(const tokenizer &tokenizer) { return of(tokenizer.raw()); }
};

/// A JSON schema, for one turn at a time. The index has to outlive it, and so it has to outlive the turn.
class schema : public owned<ossicle_schema> {
  public:
    static result<schema> from(const token_index &index, std::string_view text, bool ignore_unsupported = false) {
        auto config = defaults<ossicle_schema_config>();
        config.text = text_of(text);
        config.ignore_unsupported = ignore_unsupported;
        return make([&](auto *layout, auto *error) { return ossicle_schema_layout(index.raw(), &config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_schema_new(index.raw(), region, size, &config, out, error);
                    },
                    schema());
    }
    /// What is not enforced, from number 0 on.
    std::optional<error> warning(std::uint32_t number) const noexcept {
        error found;
        return ossicle_schema_warning(raw(), number, &found) == OSSICLE_MORE ? std::optional(found) : std::nullopt;
    }
    /// For ossicle_turn_config: the answer meets the schema; or, with its full name, the argument of a tool.
    ossicle_constraint constraint(std::string_view tool = {}) const noexcept {
        auto constraint = defaults<ossicle_constraint>();
        constraint.schema = raw();
        constraint.tool = text_of(tool);
        return constraint;
    }
};

/// One answer. The generation has to outlive it, and so have the schemas of its constraints.
class turn : public owned<ossicle_turn> {
  public:
    static result<turn> of(generation &generation, const ossicle_turn_config *config = nullptr) {
        return make([&](auto *layout, auto *error) { return ossicle_turn_layout(config, layout, error); },
                    [&](void *region, std::size_t size, auto **out, auto *error) {
                        return ossicle_turn_new(generation.raw(), region, size, config, out, error);
                    },
                    turn());
    }
    /// A bounded piece of work: OSSICLE_MORE, OSSICLE_OK once the turn is over, or an error.
    std::int32_t step(std::uint64_t budget, const ossicle_host *host = nullptr, error *failure = nullptr) noexcept {
        return ossicle_turn_step(raw(), host, budget, failure);
    }
    /// The events that wait.
    auto waiting() noexcept {
        auto next = [raw = raw()](const ossicle_event **event, error *) { return ossicle_turn_event(raw, event); };
        return event_range<decltype(next)>(next);
    }
    /// All events to the end, computing as long as it takes.
    auto events(const ossicle_host *host = nullptr) noexcept {
        auto next = [raw = raw(), host](const ossicle_event **event, error *failure) {
            return ossicle_turn_next(raw, host, event, failure);
        };
        return event_range<decltype(next)>(next);
    }
};

/// With an operating system: a model by its path, and a conversation with it.
class chat {
  public:
    static result<chat> open(const char *path, const ossicle_chat_config *config = nullptr) {
        error failure;
        chat opened;
        ossicle_chat *raw = nullptr;
        failure.status = ossicle_chat_open(path, config, &raw, &failure);
        if (failure.status < 0)
            return failure;
        opened.raw_.reset(raw);
        return result<chat>(std::move(opened));
    }
    /// Asks, and gives the events of the answer.
    auto ask(std::string_view question, const ossicle_turn_config *config = nullptr) noexcept {
        auto next = [raw = raw_.get()](const ossicle_event **event, error *failure) {
            return ossicle_chat_next(raw, event, failure);
        };
        using range = event_range<decltype(next)>;
        error failure;
        failure.status = ossicle_chat_ask(raw_.get(), text_of(question), config, &failure);
        return failure.status < 0 ? result<range>(failure) : result<range>(range(next));
    }
    /// Lends a policy and tools, from the next question on.
    error lend(const ossicle_chat_host &host) noexcept {
        error failure;
        failure.status = ossicle_chat_lend(raw(), &host, &failure);
        return failure;
    }
    /// Ends the answer under way; from any thread, or a signal handler.
    void cancel() const noexcept { ossicle_chat_cancel(raw()); }
    ossicle_chat *raw() const noexcept { return raw_.get(); }
    const ossicle_tokenizer *tokenizer() const noexcept {
        const ossicle_tokenizer *tokenizer = nullptr;
        ossicle_chat_tokenizer(raw(), &tokenizer);
        return tokenizer;
    }

  private:
    struct close {
        void operator()(ossicle_chat *raw) const noexcept { ossicle_chat_close(raw); }
    };
    std::unique_ptr<ossicle_chat, close> raw_;
};

} // namespace ossicle

#endif // OSSICLE_HPP
