-- The C ABI of Ossicle in LuaJIT: the header itself is the declaration.
local ffi = require "ffi"

-- Declares what stands in ossicle.h and loads the library; returns it. Constants are `ossicle.OSSICLE_OK` and so on.
return function(header, library)
    local declarations, is_cpp = {}, false
    for line in io.lines(header) do
        local name, number = line:match "^#define ([%w_]+) (%-?%d+)$"
        if name then
            declarations[#declarations + 1] = ("enum { %s = %s };"):format(name, number)
        elseif line:match "^#ifdef __cplusplus" then
            is_cpp = true
        elseif line:match "^#endif" then
            is_cpp = false
        elseif not is_cpp and not line:match "^#" then
            declarations[#declarations + 1] = line
        end
    end
    ffi.cdef(table.concat(declarations, "\n"))
    local loaded = ffi.load(library)
    -- Constants belong to no library.
    return setmetatable({}, { __index = function(_, name)
        return name:match "^OSSICLE_" and ffi.C[name] or loaded[name]
    end })
end
