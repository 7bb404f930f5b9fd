// Items of one float each: the narrowest loader, which only ceiling_copy has.

alias Item = f32;
